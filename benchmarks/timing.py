"""Two things timed in turn, so that a busy moment of the machine falls on both."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import NamedTuple

SPIN = 0.1  # seconds, longer than ONNX Runtime's threads spin


class Comparison(NamedTuple):
    """Medians over the pairs: seconds of each, peer / ours, and ours - peer."""

    here: float
    beside: float
    ratio: float
    more: float


def timed(action: Callable[[], object]) -> float:
    """Seconds that one call takes."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def compare(here: Callable[[], object], beside: Callable[[], object], pairs: int) -> Comparison:
    """Time the two in turn, `pairs` times each; the caller has warmed them up."""
    return summarize([(timed(here), timed(beside)) for _ in range(pairs)])


def compare_for(here: Callable[[], object], beside: Callable[[], object], budget: float) -> Comparison:
    """Warm both up, then time them in turn for about `budget` seconds, but five times each at least."""
    for _ in range(2):
        once = timed(lambda: (settled(here), settled(beside)))
    return summarize([(settled(here), settled(beside)) for _ in range(max(5, min(200, round(budget / once))))])


def settled(action: Callable[[], object]) -> float:
    """Seconds of a call after others that took `SPIN`: till then the other side's threads may wait for work, busily."""
    end = time.perf_counter() + SPIN
    while time.perf_counter() < end:
        action()
    return timed(action)


def summarize(pairs: list[tuple[float, float]]) -> Comparison:
    """The medians of (here, beside) seconds, of their ratios and of their differences."""
    heres, besides = zip(*pairs, strict=True)
    ratio = median(beside / here for here, beside in pairs)
    return Comparison(median(heres), median(besides), ratio, median(here - beside for here, beside in pairs))


def say(text: str) -> None:
    """Progress, on stderr."""
    print(f"  {text} ...", file=sys.stderr, flush=True)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without progress bars, which would be timed too."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):  # noqa: PTH123
        yield
