"""Run a detector on images, whole or in tiles, whatever the runtime behind it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detector.core.errors import UserError
from detector.core.images import (
    UNREADABLE,
    LetterboxedImage,
    apply_orientation,
    letterbox,
    load_letterboxed,
    open_image,
    to_rgb,
)
from detector.engine.detections import Detections
from detector.runners.tiling import Tiling, compute_windows, stitch

# Images uint8 [B, 3, H, W] -> the detections in each, with boxes in pixels of the model input.
Runner = Callable[[NDArray[np.uint8]], list[Detections]]


class ModelMetadata(NamedTuple):
    """What a model file says about its detector; an ONNX file stores each field as JSON in its metadata.

    model: key in the model table. classes, states: names in the order of their ids, from 1. size: (H, W) of the
    input. fill: RGB of the padding. data: SHA-256 of the COCO files that it was trained and validated on.

    threshold: operating threshold per class, compared with the uncalibrated score; a checkpoint has none.
    temperature: of `rescale_scores`, which calibrates the scores; 1 leaves them unchanged.
    code: SHA-256 of the code that trained it. dataset: SHA-256 of the cleaned dataset's manifest; empty for a
    checkpoint. precision: fp32, fp16 or int8. nms_iou, max_detections: postprocessing settings, per image.
    """

    model: str
    classes: list[str]
    states: list[str]
    size: tuple[int, int]
    fill: tuple[int, int, int]
    data: str
    threshold: dict[str, float] = {}  # noqa: RUF012 - never modified
    temperature: float = 1.0
    code: str = ""
    dataset: str = ""
    precision: str = "fp32"
    nms_iou: float = 0.6
    max_detections: int = 100


def detect_images(paths: list[Path], runner: Runner, metadata: ModelMetadata, batch_size: int) -> Iterator[Detections]:
    """Yield the detections of each image, boxes in its pixels. Raises UserError naming an image that cannot be read."""
    yield from run_batched((_load_letterboxed(path, metadata) for path in paths), runner, batch_size)


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
            _load_upright_rgb(path),
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


def _load_letterboxed(path: Path, metadata: ModelMetadata) -> LetterboxedImage:
    try:
        return load_letterboxed(path, metadata.size, metadata.fill)
    except UNREADABLE as error:
        raise UserError(f"{path}: the image cannot be read ({error})") from None


def to_upright_rgb(image: Image.Image) -> Image.Image:
    """Decode an opened image in full size, upright and RGB."""
    decoded = to_rgb(apply_orientation(image))
    decoded.info = {}  # otherwise the EXIF orientation would be applied to each tile again
    return decoded


def _load_upright_rgb(path: Path) -> Image.Image:
    try:
        with open_image(path) as image:
            return to_upright_rgb(image)
    except UNREADABLE as error:
        raise UserError(f"{path}: the image cannot be read ({error})") from None
