"""Run a detector on images, whole or in tiles, whatever the runtime behind it."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detector.core.boxes import to_image_pixels
from detector.core.images import load_letterboxed, load_rgb
from detector.core.pixels import LetterboxedImage, letterbox
from detector.engine.detections import Detections
from detector.runners.model_metadata import ModelMetadata
from detector.runners.tiling import Tiling, compute_windows, stitch

# Images uint8 [B, 3, H, W] -> the detections in each, with boxes in pixels of the model input.
Runner = Callable[[NDArray[np.uint8]], list[Detections]]


def detect_images(
    paths: list[Path],
    runner: Runner,
    metadata: ModelMetadata,
    batch_size: int,
    sizes: Sequence[tuple[int, int]] | None = None,
) -> Iterator[Detections]:
    """Yield the detections of each image, boxes in its pixels. Raises UserError naming an image that cannot be read.

    sizes: (width, height) that each image must have; None for any.
    """
    inputs = (load_letterboxed(path, metadata.size, metadata.fill, size) for path, size in _pair(paths, sizes))
    yield from run_batched(inputs, runner, batch_size)


def _pair(
    paths: Sequence[Path], sizes: Sequence[tuple[int, int]] | None
) -> Iterator[tuple[Path, tuple[int, int] | None]]:
    expected: Sequence[tuple[int, int] | None] = sizes or [None] * len(paths)
    yield from zip(paths, expected, strict=True)


def detect_in_tiles(
    paths: list[Path],
    runner: Runner,
    metadata: ModelMetadata,
    batch_size: int,
    *,
    tiling: Tiling,
    iou_threshold: float,
    max_detections: int,
    sizes: Sequence[tuple[int, int]] | None = None,
) -> Iterator[Detections]:
    """Yield the detections of each image from overlapping tiles.

    iou_threshold, max_detections: see `stitch`; sizes: see `detect_images`.
    """
    for path, size in _pair(paths, sizes):
        yield detect_image_in_tiles(
            load_rgb(path, expected_size=size),
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
    inputs = (crop_window(image, window, metadata) for window in windows)
    views = list(run_batched(inputs, runner, batch_size))
    return merge_windows(views, windows, tiling, iou_threshold, max_detections)


def run_batched(inputs: Iterable[LetterboxedImage], runner: Runner, batch_size: int) -> Iterator[Detections]:
    """Yield the detections of each input, boxes in pixels of the image before letterboxing."""
    remaining = iter(inputs)
    while batch := list(itertools.islice(remaining, batch_size)):
        results = runner(np.stack([image.pixels.transpose(2, 0, 1) for image in batch]))
        for image, detections in zip(batch, results, strict=True):
            yield undo_letterbox(detections, image)


def crop_window(image: Image.Image, window: NDArray[np.int64], metadata: ModelMetadata) -> LetterboxedImage:
    """Return the model's input for a window (xyxy) of a decoded image."""
    left, top, right, bottom = window.tolist()
    return letterbox(image.crop((left, top, right, bottom)), metadata.size, metadata.fill)


def undo_letterbox(detections: Detections, image: LetterboxedImage) -> Detections:
    """Convert boxes from pixels of the model's input to pixels of the image before letterboxing."""
    return detections._replace(boxes_xyxy=to_image_pixels(detections.boxes_xyxy, image.scale))


def merge_windows(
    views: list[Detections], windows: NDArray[np.int64], tiling: Tiling, iou_threshold: float, max_detections: int
) -> Detections:
    """Return the detections of an image from those of its windows [T, 4], each in the pixels of its window."""
    shifted = [_shift_to_image(detections, window) for detections, window in zip(views, windows, strict=True)]
    return stitch(shifted, windows, tiling, iou_threshold, max_detections)


def _shift_to_image(detections: Detections, window: NDArray[np.int64]) -> Detections:
    """Convert boxes from pixels of a window (xyxy) to pixels of the image, clipped to the window."""
    corner = np.tile(window[:2], 2)
    return detections._replace(boxes_xyxy=(detections.boxes_xyxy + corner).clip(corner, np.tile(window[2:], 2)))
