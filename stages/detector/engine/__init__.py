"""Datasets, prediction, COCO metrics, checkpoints and seeding: used by train, evaluate and export."""
