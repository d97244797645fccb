"""Metrics, plots, label issues and the report: used by evaluate."""
