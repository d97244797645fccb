"""Comparing two sets of detections: used by tools/compare.py and tools/evaluate_on.py, by no stage."""
