"""Boxes drawn on images and the style of every plot: used by preprocess and evaluate."""
