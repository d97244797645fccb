"""CPU time and memory of an evaluation of many classes: matching, metrics with intervals, error types.

python -m benchmarks.many_classes [--images 2000] [--classes 80] [--detections 20] [--samples 1000]

To compare with an earlier commit, copy this file and coco_evaluation.py into a worktree of it.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Callable
from typing import NamedTuple, TypeVar

import numpy as np

from benchmarks.coco_evaluation import generate_case
from benchmarks.table import Row, format_seconds, format_table
from benchmarks.timing import log_progress
from detector.evaluation.coco_check import check_coco_metrics
from detector.evaluation.error_types import analyze_errors
from detector.evaluation.label_issues import find_label_issues
from detector.evaluation.matched_split import choose_thresholds, match_split
from detector.evaluation.metrics import compute_metrics

T = TypeVar("T")


class Cost(NamedTuple):
    """cpu: seconds of a step. memory: peak of the process until its end in GiB, the generated case included."""

    name: str
    cpu: float
    memory: float

    def describe_memory(self) -> str:
        """For the table."""
        return f"CPU time; peak memory until here {self.memory:.2f} GiB"


TARGET = 5.0  # CPU seconds of the matches and the metrics of 2,000 images, 80 classes and 1,000 samples
REFERENCE = (2000, 80, 20, 1000)


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    for name, value in zip(("images", "classes", "detections", "samples"), REFERENCE, strict=True):
        parser.add_argument(f"--{name}", type=int, default=value)
    options = parser.parse_args(arguments)
    sizes = (options.images, options.classes, options.detections, options.samples)
    print(format_table(measure(*sizes)))


def measure(images: int, classes: int, detections: int, samples: int) -> list[Row]:
    """One row per step; the same images serve as val and as test."""
    truth, predictions = generate_case(images, detections, classes)
    no_states = np.zeros((len(truth.objects.ids), 0))
    split, matching = measure_step("matches", lambda: match_split(truth, predictions))
    thresholds = choose_thresholds(split, "f1", False, 10)
    result, metrics = measure_step(
        "metrics",
        lambda: compute_metrics(
            split, split, thresholds, state_scores=no_states, cost_ratio=10, bootstrap_samples=samples
        ),
    )
    _, errors = measure_step("error types", lambda: analyze_errors(split.labels, split.predictions, split.matches))
    _, issues = measure_step("label issues", lambda: find_label_issues("test", truth, predictions, None))
    _, check = measure_step("check", lambda: check_coco_metrics(split.truth, predictions, result.flat, "test"))
    both = matching.cpu + metrics.cpu
    is_reference = (images, classes, detections, samples) == REFERENCE
    total = Row(f"{images:,} images, {classes} classes: matches and metrics", format_seconds(both), "", "CPU time")
    if is_reference:
        total = total._replace(target=f"≤ {TARGET:g} s", passed=both <= TARGET)
    steps = (matching, metrics, errors, issues, check)
    return [total, *(Row(f"  {step.name}", format_seconds(step.cpu), "", step.describe_memory()) for step in steps)]


def measure_step(name: str, step: Callable[[], T]) -> tuple[T, Cost]:
    """What the step returns, and what it costs."""
    log_progress(name)
    start = time.process_time()
    result = step()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return result, Cost(name, time.process_time() - start, memory)


if __name__ == "__main__":
    main()
