"""Measurements of this project against baselines."""
