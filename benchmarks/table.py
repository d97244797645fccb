"""The Markdown table that the benchmarks print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

HEAD = ("what", "ours", "baseline", "measured", "target", "")


class Row(NamedTuple):
    """One measurement as text; `passed` is None without a target."""

    what: str
    ours: str
    baseline: str
    measured: str
    target: str = ""
    passed: bool | None = None


def check_ratio(ratio: float, target: float) -> tuple[str, str, bool]:
    """The last three fields of a row whose target is `ratio` >= `target`, compared before rounding."""
    return f"{ratio:.2f} ×", f"≥ {target:g} ×", ratio >= target


def check_share(share: float, target: float) -> tuple[str, str, bool]:
    """The same of a row whose target is `share` <= `target`."""
    return f"{share:.2f} ×", f"≤ {target:g} ×", share <= target


def format_table(rows: Sequence[Row]) -> str:
    """The table, with padded cells."""
    lines = [HEAD, *((*row[:-1], format_verdict(row.passed)) for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    rule = tuple("-" * width for width in widths)
    padded = (
        " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True))
        for line in (lines[0], rule, *lines[1:])
    )
    return "\n".join(f"| {line} |" for line in padded)


def format_row(cells: Sequence[str]) -> str:
    """One line of a Markdown table that is printed row by row."""
    return f"| {' | '.join(cells)} |"


def format_head(cells: Sequence[str]) -> str:
    """The first two lines of such a table."""
    return f"{format_row(cells)}\n{format_row(['---'] * len(cells))}"


def format_verdict(passed: bool | None) -> str:
    """The last cell of a row."""
    return "" if passed is None else "pass" if passed else "MISS"


def format_seconds(value: float) -> str:
    """A duration in ms or s with about three digits."""
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.2f} s"


def format_rate(count: int, value: float, unit: str = "images/s") -> str:
    """`count` per `value` seconds."""
    return f"{count / value:,.0f} {unit}"
