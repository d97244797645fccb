"""Training loop, data loading, augmentation, optimization, checkpoints and loggers: used by train."""
