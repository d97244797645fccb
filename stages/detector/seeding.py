"""Runs that repeat to the bit: seeds, thread counts, deterministic kernels."""

from __future__ import annotations

import os
import random

import numpy as np
import torch
import torch.utils.deterministic


def make_deterministic(seed: int, threads: int) -> None:
    """Seed Python, NumPy and torch and allow deterministic kernels only.

    threads: CPU threads of torch; sums depend on how many share the work, so the bytes of a trained
    model do too. 0 leaves all cores, and the result then depends on their number.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    # Only of use to debug reads of uninitialized memory; it costs time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    if threads > 0:
        torch.set_num_threads(threads)
