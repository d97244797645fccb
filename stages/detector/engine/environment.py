"""Checks and settings torch needs: a matching torchvision, and an allocator that keeps freed memory."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version


def check_torch() -> None:
    """Exit with advice when torch or torchvision is missing, or torchvision's operators do not load."""
    # Idle OpenMP threads stop spinning early, which frees their cores for other processes.
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")
    try:
        pair = f"torch {version('torch')} and torchvision {version('torchvision')}"
    except PackageNotFoundError as error:
        sys.exit(f"error: {error.name} is not installed in {sys.prefix}; run `make install`")
    try:
        from torchvision.ops import nms  # noqa: F401  loads torchvision's compiled operators
    except (RuntimeError, ImportError, OSError, AttributeError) as error:
        sys.exit(
            f"error: {pair} do not match ({error}).\nBoth must come from the same release and build (CPU, or "
            "the same CUDA version): run `make install`, or see `Choosing a PyTorch build` in docs/reproducibility.md."
        )


def keep_freed_memory() -> None:
    """Make glibc keep large freed blocks instead of returning them to the kernel after every step.

    Otherwise a tensor of more than 32 MB is mapped, faulted in page by page and unmapped again in each step,
    which can take longer than the step itself on a virtual machine. Does nothing without glibc.
    """
    mmap_max, trim_threshold = -4, -1  # M_MMAP_MAX and M_TRIM_THRESHOLD of malloc.h
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(mmap_max, 0)
        libc.mallopt(trim_threshold, 2**31 - 1)
