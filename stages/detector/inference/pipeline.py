"""Run a detector on inputs, one image after another, and count the results."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.engine.detections import Detections, Prediction, to_coco_results
from detector.inference.decoding import DecodedImage, DecodeOptions, UnreadableInput, decode_ahead
from detector.inference.inputs import Input
from detector.inference.thresholds import apply_thresholds
from detector.runners.model_metadata import ModelMetadata
from detector.runners.tiled import Runner, detect_image_in_tiles, run_batched
from detector.runners.tiling import Tiling, count_windows


class Detector(NamedTuple):
    """An opened model and how to run it.

    threshold: for all classes; None uses the thresholds stored in the model. classes: ids of those to keep, None for
    all. tiling: None for whole images.
    """

    metadata: ModelMetadata
    runner: Runner
    threshold: float | None
    classes: frozenset[int] | None
    tiling: Tiling | None
    batch_size: int
    threads: int


class Totals:
    """Counts over all images of a run. large: those whose longer side exceeds `large_side` pixels."""

    def __init__(self, large_side: float) -> None:
        self.large_side = large_side
        self.images = self.empty = self.large = self.multi_page = 0
        self.boxes, self.states = Counter[int](), Counter[int]()
        self.problems: list[UnreadableInput] = []

    def add(self, decoded: DecodedImage, predictions: list[Prediction]) -> None:
        """Count one more image."""
        self.images += 1
        self.empty += not predictions
        self.large += max(decoded.width, decoded.height) > self.large_side
        self.multi_page += decoded.is_multi_page
        self.boxes.update(prediction["category_id"] for prediction in predictions)
        self.states.update(prediction["state"] for prediction in predictions if prediction["state"])


# Called before each batch with the number of tiles done and of all tiles of the image, 0 and 0 for whole images. What
# it raises ends the run.
Watch = Callable[[int, int], None]


def predict_inputs(
    inputs: Iterable[Input],
    detector: Detector,
    keep_frames: bool,
    report: Callable[[UnreadableInput], None],
    watch: Watch,
) -> Iterator[tuple[DecodedImage, list[Prediction]]]:
    """Yield every readable input in order with its detections above the threshold; image_id counts from 1.

    keep_frames: keep `DecodedImage.image` of video frames. report: called with each input that cannot be read.
    """
    options = DecodeOptions(detector.metadata, keep_full_size=detector.tiling is not None, keep_frames=keep_frames)
    # Few full-size images are kept in memory; small model inputs are queued so that the next batch is always ready.
    max_ahead = 1 if options.keep_full_size else detector.threads + 2 * detector.batch_size
    readable = _report_unreadable(decode_ahead(inputs, options, detector.threads, max_ahead), report)
    for number, (decoded, detections) in enumerate(_detect(readable, detector, watch), 1):
        kept = apply_thresholds(detections, detector.metadata, detector.threshold, detector.classes)
        yield decoded, to_coco_results(kept, number, decoded.width, decoded.height)


def _report_unreadable(
    inputs: Iterable[DecodedImage | UnreadableInput], report: Callable[[UnreadableInput], None]
) -> Iterator[DecodedImage]:
    for one in inputs:
        if isinstance(one, UnreadableInput):
            report(one)
        else:
            yield one


def _detect(
    readable: Iterator[DecodedImage], detector: Detector, watch: Watch
) -> Iterator[tuple[DecodedImage, Detections]]:
    if detector.tiling is not None:
        yield from ((decoded, _detect_in_tiles(decoded, detector, detector.tiling, watch)) for decoded in readable)
        return

    def run(images: NDArray[np.uint8]) -> list[Detections]:
        watch(0, 0)
        return detector.runner(images)

    images, model_inputs = itertools.tee(readable)
    results = run_batched((decoded.letterboxed for decoded in model_inputs), run, detector.batch_size)
    yield from zip(images, results, strict=False)


def _detect_in_tiles(decoded: DecodedImage, detector: Detector, tiling: Tiling, watch: Watch) -> Detections:
    assert decoded.image is not None
    metadata, done = detector.metadata, 0
    count = count_windows(*decoded.image.size, tiling)

    def run(images: NDArray[np.uint8]) -> list[Detections]:
        nonlocal done
        watch(done, count)
        done += len(images)
        return detector.runner(images)

    return detect_image_in_tiles(
        decoded.image,
        run,
        metadata,
        detector.batch_size,
        tiling=tiling,
        iou_threshold=metadata.nms_iou,
        # The model's limit applies to each tile: a large image contains more objects than a small one.
        max_detections=metadata.max_detections * count,
    )
