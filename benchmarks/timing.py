"""Time two actions alternately, so load on the machine affects both."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import NamedTuple

SPIN_SECONDS = 0.1  # longer than ONNX Runtime's idle threads spin


class Comparison(NamedTuple):
    """Medians over the pairs: seconds of each, baseline / ours, and ours - baseline."""

    ours: float
    baseline: float
    ratio: float
    difference: float


def measure_seconds(action: Callable[[], object]) -> float:
    """The duration of one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def time_pairs(ours: Callable[[], object], baseline: Callable[[], object], pairs: int) -> Comparison:
    """Time both alternately, `pairs` times each; the caller has warmed them up."""
    return summarize_pairs([(measure_seconds(ours), measure_seconds(baseline)) for _ in range(pairs)])


def time_pairs_for(ours: Callable[[], object], baseline: Callable[[], object], budget: float) -> Comparison:
    """Warm both up, then time them alternately for about `budget` seconds, 5 to 200 times each."""
    for _ in range(2):
        once = measure_seconds(lambda: (time_settled(ours), time_settled(baseline)))
    pairs = max(5, min(200, round(budget / once)))
    return summarize_pairs([(time_settled(ours), time_settled(baseline)) for _ in range(pairs)])


def time_settled(action: Callable[[], object]) -> float:
    """The duration of a call after SPIN_SECONDS of calls, during which the other action's threads may still spin."""
    end = time.perf_counter() + SPIN_SECONDS
    while time.perf_counter() < end:
        action()
    return measure_seconds(action)


def summarize_pairs(pairs: list[tuple[float, float]]) -> Comparison:
    """The medians of (ours, baseline) seconds, of their ratios and of their differences."""
    all_ours, all_baselines = zip(*pairs, strict=True)
    ratio = median(baseline / ours for ours, baseline in pairs)
    difference = median(ours - baseline for ours, baseline in pairs)
    return Comparison(median(all_ours), median(all_baselines), ratio, difference)


def log_progress(text: str) -> None:
    """Print progress to stderr."""
    print(f"  {text} ...", file=sys.stderr, flush=True)


@contextlib.contextmanager
def hide_progress_bars() -> Iterator[None]:
    """Redirect stderr, because progress bars would be timed too."""
    with open(os.devnull, "w") as nowhere, contextlib.redirect_stderr(nowhere):  # noqa: PTH123
        yield
