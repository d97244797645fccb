"""Boxes drawn on images, and the colors and style of every plot; used by preprocess, evaluate, export and predict."""
