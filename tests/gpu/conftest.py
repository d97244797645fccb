"""Tests of what only a GPU can show; `make test-gpu` runs them. Without a GPU they are skipped."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from benchmarks.gpu_settings import GpuSettings
from detector.engine.seeding import make_deterministic


@pytest.fixture(autouse=True)
def needs_gpu() -> Iterator[None]:
    """Skip without a GPU; otherwise set torch up as stages/train.py does."""
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA GPU")
    make_deterministic(0, 0)
    yield
    torch.use_deterministic_algorithms(False)
    torch.cuda.empty_cache()


@pytest.fixture
def settings() -> GpuSettings:
    """Small inputs, with as many cells as the query-based detectors have queries."""
    return GpuSettings(torch.device("cuda"), batch=4, side=320, steps=40)
