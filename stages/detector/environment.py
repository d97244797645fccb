"""Whether torch and torchvision fit together, said clearly before one of them fails obscurely."""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, version


def check_torch() -> None:
    """Exit with advice when torch or torchvision is missing or torchvision's operators do not load."""
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
