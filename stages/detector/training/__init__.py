"""Turning a model and a dataset into a trained model."""
