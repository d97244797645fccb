"""Names in plots and pictures."""

from __future__ import annotations


def shorten_name(name: str, length: int = 32) -> str:
    """The name on one line, its middle left out if it is longer than `length`: class names may have any length."""
    name = " ".join(name.split())
    return name if len(name) <= length else f"{name[: length // 2]}…{name[len(name) - (length - 1) // 2 :]}"
