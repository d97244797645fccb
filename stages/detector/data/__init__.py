"""Datasets: reading, cleaning, splitting, and feeding them to a model."""
