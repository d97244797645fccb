"""Datasets, prediction, COCO metrics, checkpoints, seeding: used by train, evaluate and export."""
