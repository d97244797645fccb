"""The rows of the printed table."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

HEAD = ("what", "here", "beside it", "measured", "target", "")


class Row(NamedTuple):
    """One measurement in words; `passed` is None for a figure without a target."""

    what: str
    here: str
    beside: str
    measured: str
    target: str = ""
    passed: bool | None = None


def at_least(ratio: float, target: float) -> tuple[str, str, bool]:
    """The last three fields of a row that asks for `ratio` >= `target`; a printed pass is never rounded up."""
    return f"{ratio:.2f} ×", f"≥ {target:g} ×", ratio >= target


def markdown(rows: Sequence[Row]) -> str:
    """The table, with columns as wide as their widest cell."""
    lines = [HEAD, *((*row[:-1], verdict(row.passed)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = tuple("-" * width for width in widths)
    padded = (
        " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in (lines[0], rule, *lines[1:])
    )
    return "\n".join(f"| {line} |" for line in padded)


def verdict(passed: bool | None) -> str:
    """The word for it."""
    return "" if passed is None else "pass" if passed else "MISS"


def seconds(value: float) -> str:
    """A duration with about three digits."""
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def rate(count: int, value: float, unit: str = "images/s") -> str:
    """`count` in `value` seconds."""
    return f"{count / value:,.0f} {unit}"
