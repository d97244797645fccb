"""Run a detector on images, whole or in tiles, whatever the runtime behind it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import Field, FiniteFloat, model_validator

from detector.core.images import load_letterboxed, load_rgb
from detector.core.params import Section
from detector.core.pixels import LetterboxedImage, letterbox
from detector.engine.detections import Detections
from detector.engine.model_values import Color, InputSize, Name, Names
from detector.runners.tiling import Tiling, compute_windows, stitch

Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]

# Images uint8 [B, 3, H, W] -> the detections in each, with boxes in pixels of the model input.
Runner = Callable[[NDArray[np.uint8]], list[Detections]]


class ModelMetadata(Section):
    """What a model file says about its detector; an ONNX file stores each field as JSON in its metadata.

    model: key in the model table. classes, states: names in the order of their ids, from 1. size: (H, W) of the
    input. fill: RGB of the padding. data: SHA-256 of the COCO files that it was trained and validated on.

    threshold: operating threshold of each class, compared with the uncalibrated score; a checkpoint has none at all.
    temperature: of `rescale_scores`, which calibrates the scores; 1 leaves them unchanged.
    code: SHA-256 of the code that trained it. dataset: SHA-256 of the cleaned dataset's manifest; empty for a
    checkpoint. precision: fp32, fp16 or int8. nms_iou, max_detections: postprocessing settings, per image.
    """

    model: Name
    classes: Annotated[Names, Field(min_length=1)]
    states: Names
    size: InputSize
    fill: Color
    data: str
    threshold: dict[str, Fraction] = Field(default_factory=dict)
    temperature: Annotated[FiniteFloat, Field(ge=0.01, le=100)] = 1.0
    code: str = ""
    dataset: str = ""
    precision: Name = "fp32"
    nms_iou: Fraction = 0.6
    max_detections: Annotated[int, Field(ge=1, le=100_000)] = 100

    @model_validator(mode="after")
    def _check_threshold(self) -> ModelMetadata:
        if self.threshold and set(self.threshold) != set(self.classes):
            wrong = sorted(set(self.threshold) ^ set(self.classes))[0]
            raise ValueError(f"`threshold` needs one value for each of `classes`, and has not for {wrong[:80]!r}")
        return self


def detect_images(paths: list[Path], runner: Runner, metadata: ModelMetadata, batch_size: int) -> Iterator[Detections]:
    """Yield the detections of each image, boxes in its pixels. Raises UserError naming an image that cannot be read."""
    inputs = (load_letterboxed(path, metadata.size, metadata.fill) for path in paths)
    yield from run_batched(inputs, runner, batch_size)


def detect_in_tiles(
    paths: list[Path],
    runner: Runner,
    metadata: ModelMetadata,
    batch_size: int,
    *,
    tiling: Tiling,
    iou_threshold: float,
    max_detections: int,
) -> Iterator[Detections]:
    """Yield the detections of each image from overlapping tiles; iou_threshold, max_detections: see `stitch`."""
    for path in paths:
        yield detect_image_in_tiles(
            load_rgb(path),
            runner,
            metadata,
            batch_size,
            tiling=tiling,
            iou_threshold=iou_threshold,
            max_detections=max_detections,
        )


def detect_image_in_tiles(
    image: Image.Image,
    runner: Runner,
    metadata: ModelMetadata,
    batch_size: int,
    *,
    tiling: Tiling,
    iou_threshold: float,
    max_detections: int,
) -> Detections:
    """Return the detections of one decoded image, upright and RGB, from overlapping tiles."""
    windows = compute_windows(*image.size, tiling)
    crops = (image.crop((left, top, right, bottom)) for left, top, right, bottom in windows.tolist())
    views = list(run_batched((letterbox(crop, metadata.size, metadata.fill) for crop in crops), runner, batch_size))
    shifted = [_shift_to_image(detections, window) for detections, window in zip(views, windows, strict=True)]
    return stitch(shifted, windows, tiling, iou_threshold, max_detections)


def run_batched(inputs: Iterable[LetterboxedImage], runner: Runner, batch_size: int) -> Iterator[Detections]:
    """Yield the detections of each input, boxes in pixels of the image before letterboxing."""
    remaining = iter(inputs)
    while batch := list(itertools.islice(remaining, batch_size)):
        results = runner(np.stack([image.pixels.transpose(2, 0, 1) for image in batch]))
        for image, detections in zip(batch, results, strict=True):
            yield detections._replace(boxes_xyxy=detections.boxes_xyxy.astype(np.float64) / image.scale)


def _shift_to_image(detections: Detections, window: NDArray[np.int64]) -> Detections:
    """Convert boxes from pixels of a window (xyxy) to pixels of the image, clipped to the window."""
    corner = np.tile(window[:2], 2)
    return detections._replace(boxes_xyxy=(detections.boxes_xyxy + corner).clip(corner, np.tile(window[2:], 2)))
