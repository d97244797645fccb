"""Bit-identical runs: seeds, thread counts, deterministic kernels."""

from __future__ import annotations

import os
import random
from typing import Any

import numpy as np
import torch
import torch.utils.deterministic


def seed_rank(seed: int, rank: int) -> None:
    """Give each rank above 0 its own random seed; rank 0 keeps its generators as they are."""
    if rank:
        rank_seed = int(np.random.SeedSequence((seed, rank)).generate_state(1)[0])
        random.seed(rank_seed)
        np.random.seed(rank_seed)
        torch.manual_seed(rank_seed)


def make_deterministic(seed: int, threads: int) -> None:
    """Seed Python, NumPy and torch, and use deterministic kernels where they exist.

    threads: CPU threads of torch. Sums depend on the thread count, and so do the bytes of a trained model; 0 uses
    all cores, which makes the result depend on their number.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    # CUDA has no deterministic kernel for a few operations (RoIAlign and grid_sample, backward) and warns about them.
    torch.use_deterministic_algorithms(True, warn_only=torch.cuda.is_available())
    # Filling only helps to debug reads of uninitialized memory, and costs time.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.backends.cudnn.benchmark = False
    if threads > 0:
        torch.set_num_threads(threads)


def get_random_state() -> dict[str, Any]:
    """The states of Python's, NumPy's and torch's random generators."""
    name, keys, *rest = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (name, keys.tolist(), *rest),  # type: ignore[union-attr]
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def set_random_state(state: dict[str, Any]) -> None:
    """Restore the generator states returned by `get_random_state`."""
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
