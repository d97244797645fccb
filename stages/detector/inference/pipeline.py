"""From inputs to detections, one image after another, and what all of them come to."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from detector.engine.detections import Detections, Prediction, coco_results
from detector.inference.decoding import Asked, Problem, Seen, see_all
from detector.inference.inputs import Input
from detector.inference.thresholds import counted
from detector.runners.tiled import ModelMetadata, Runner, answers, find_in_tiles_of
from detector.runners.tiling import Tiling, tiles_of


class Detector(NamedTuple):
    """An opened model and how to run it. threshold: of every class, None for the file's own; tiling: None: whole."""

    facts: ModelMetadata
    runner: Runner
    threshold: float | None
    tiling: Tiling | None
    batch_size: int
    threads: int


class Totals:
    """What a run came to."""

    def __init__(self) -> None:
        self.images = self.empty = self.first_of_many = 0
        self.boxes, self.states = Counter[int](), Counter[int]()
        self.files: set[Path] = set()
        self.problems: list[Problem] = []

    def add(self, seen: Seen, predictions: list[Prediction]) -> None:
        """One more image."""
        self.images += 1
        self.empty += not predictions
        self.first_of_many += seen.first_of_many
        self.boxes.update(prediction["category_id"] for prediction in predictions)
        self.states.update(prediction["state"] for prediction in predictions if prediction["state"])


def predict(
    inputs: Iterable[Input], detector: Detector, frames: bool, report: Callable[[Problem], None]
) -> Iterator[tuple[Seen, list[Prediction]]]:
    """Every input that can be read, in order, with what counts in it; image_id numbers them from 1.

    frames: whether `Seen.image` of a video's frames is needed. report: is told of what cannot be read.
    """
    asked = Asked(detector.facts, pixels=detector.tiling is not None, frames=frames)
    # Full images wait in no long queue; of the model's small inputs, the next batch is ready when this one is done.
    most = 1 if asked.pixels else detector.threads + 2 * detector.batch_size
    readable = _without_problems(see_all(inputs, asked, detector.threads, most), report)
    for number, (seen, found) in enumerate(_found(readable, detector), 1):
        chosen = counted(found, detector.facts, detector.threshold)
        yield seen, coco_results(chosen, number, seen.width, seen.height)


def _without_problems(seen: Iterable[Seen | Problem], report: Callable[[Problem], None]) -> Iterator[Seen]:
    for one in seen:
        if isinstance(one, Problem):
            report(one)
        else:
            yield one


def _found(readable: Iterator[Seen], detector: Detector) -> Iterator[tuple[Seen, Detections]]:
    facts, runner, _, tiling, batch_size, _ = detector
    if tiling is None:
        one, other = itertools.tee(readable)
        yield from zip(one, answers((seen.view for seen in other), runner, batch_size), strict=False)
        return
    for seen in readable:
        assert seen.image is not None
        # What the model gives of one input at most, of each tile: a large image has more objects than a small one.
        most = facts.max_detections * len(tiles_of(*seen.image.size, tiling))
        yield seen, find_in_tiles_of(seen.image, runner, facts, batch_size, tiling, facts.nms_iou, most)
