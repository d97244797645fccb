"""Measurements of this project side by side with its peers."""
