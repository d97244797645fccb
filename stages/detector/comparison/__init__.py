"""Comparison of results, evaluation on other data: used by tools/compare.py and tools/evaluate_model.py."""
