"""The training loop, its data loading, optimization, resumption and logs: used by train."""
