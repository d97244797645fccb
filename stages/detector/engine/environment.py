"""What torch needs of the machine: a torchvision that fits, and memory that stays."""

from __future__ import annotations

import ctypes
import os
import sys
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version


def check_torch() -> None:
    """Exit with advice when torch or torchvision is missing or torchvision's operators do not load."""
    # Waiting threads soon stop spinning, which takes the core from whoever shares it.
    os.environ.setdefault("GOMP_SPINCOUNT", "30000")
    try:
        pair = f"torch {version('torch')} and torchvision {version('torchvision')}"
    except PackageNotFoundError as error:
        sys.exit(f"error: {error.name} is not installed in {sys.prefix}; run `make install`")
    try:
        from torchvision.ops import nms  # noqa: F401  loads torchvision's compiled operators
    except (RuntimeError, ImportError, OSError, AttributeError) as error:
        sys.exit(
            f"error: {pair} do not fit together ({error}).\nBoth must come from one release and one build (CPU, "
            "or the same CUDA version): run `make install`, or see `Which torch` in the README."
        )


def keep_freed_memory() -> None:
    """Tell glibc to keep large freed blocks instead of giving them back to the kernel after every step.

    A tensor of more than 32 MB is otherwise mapped, faulted in page by page and unmapped again at each
    step, which on a virtual machine may take longer than the step itself. Elsewhere than on glibc this does
    nothing.
    """
    most_mapped_blocks, trim_threshold = -4, -1  # M_MMAP_MAX and M_TRIM_THRESHOLD of malloc.h
    with suppress(OSError, AttributeError):
        libc = ctypes.CDLL("libc.so.6")
        libc.mallopt(most_mapped_blocks, 0)
        libc.mallopt(trim_threshold, 2**31 - 1)
