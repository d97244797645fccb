"""Types of the values that a checkpoint's card and an ONNX file's metadata share, with their bounds."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

from pydantic import AfterValidator, Field

MAX_SIDE = 8192  # pixels of an input: an image of that size takes 200 MB


def check_unique(names: list[str]) -> list[str]:
    """The same names. Raises ValueError if one stands twice."""
    if len(set(names)) < len(names):
        repeated = next(name for name, count in Counter(names).items() if count > 1)
        raise ValueError(f"{repeated[:80]!r} stands there twice")
    return names


Name = Annotated[str, Field(min_length=1, max_length=1000)]
Names = Annotated[list[Name], Field(max_length=100_000), AfterValidator(check_unique)]
Side = Annotated[int, Field(gt=0, le=MAX_SIDE, multiple_of=32)]
InputSize = tuple[Side, Side]  # height, width
Level = Annotated[int, Field(ge=0, le=255)]
Color = tuple[Level, Level, Level]  # R, G, B
