"""Runs that repeat to the bit: seeds, thread counts, deterministic kernels."""

from __future__ import annotations

import os
import random
from typing import Any

import numpy as np
import torch
import torch.utils.deterministic


def draw_differently(seed: int, rank: int) -> None:
    """Seed the generators anew for one of several processes that share a batch; the first (0) goes on as it was."""
    if rank:
        own = int(np.random.SeedSequence((seed, rank)).generate_state(1)[0])
        random.seed(own)
        np.random.seed(own)
        torch.manual_seed(own)


def make_deterministic(seed: int, threads: int) -> None:
    """Seed Python, NumPy and torch and use deterministic kernels, where there are any.

    threads: CPU threads of torch; sums depend on how many share the work, so the bytes of a trained
    model do too. 0 leaves all cores, and the result then depends on their number.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    # Of a few operations CUDA has no deterministic kernel (the backward of RoIAlign and of grid_sample): it says so.
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
    # Only of use to debug reads of uninitialized memory; it costs time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    if threads > 0:
        torch.set_num_threads(threads)


def random_state() -> dict[str, Any]:
    """Where Python's, NumPy's and torch's generators stand."""
    name, keys, *rest = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (name, keys.tolist(), *rest),  # type: ignore[union-attr]
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random(state: dict[str, Any]) -> None:
    """Put the generators where `random_state` found them."""
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
