"""Showing images to a detector, whole or in tiles, without knowing what computes its answers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detector.core.errors import UserError
from detector.core.images import UNREADABLE, Letterboxed, letterbox, load_letterboxed, open_image, to_rgb, upright
from detector.engine.detections import Detections
from detector.runners.tiling import Tiling, stitch, tiles_of

# Images uint8 [B, 3, H, W] -> what is found in each, boxes in pixels of that input.
Runner = Callable[[NDArray[np.uint8]], list[Detections]]


class ModelMetadata(NamedTuple):
    """What a file says of its detector; an ONNX file holds each field as JSON in its metadata.

    model: its line in the table of models. classes, states: names in the order of their ids, from 1. size: (H, W)
    of the input. fill: RGB of the padding. data: SHA-256 of the COCO files that it was trained and validated on.

    threshold: the operating threshold of each class, of the score as the file gives it; a checkpoint has none.
    temperature: of `calibration.rescaled`, which makes a score the share that is right; 1 changes nothing.
    code: SHA-256 of the code that trained it. dataset: SHA-256 of the cleaned dataset's manifest; a checkpoint does
    not say. precision: fp32, fp16 or int8. nms_iou, max_detections: how detections were picked, of an image.
    """

    model: str
    classes: list[str]
    states: list[str]
    size: tuple[int, int]
    fill: tuple[int, int, int]
    data: str
    threshold: dict[str, float] = {}  # noqa: RUF012 - nobody changes it
    temperature: float = 1.0
    code: str = ""
    dataset: str = ""
    precision: str = "fp32"
    nms_iou: float = 0.6
    max_detections: int = 100


def find_whole(paths: list[Path], runner: Runner, facts: ModelMetadata, batch_size: int) -> Iterator[Detections]:
    """What is found in each image, boxes in its pixels. Raises UserError naming one that cannot be read."""
    yield from answers((_letterboxed(path, facts) for path in paths), runner, batch_size)


def find_in_tiles(
    paths: list[Path],
    runner: Runner,
    facts: ModelMetadata,
    batch_size: int,
    tiling: Tiling,
    iou_threshold: float,
    most: int,
) -> Iterator[Detections]:
    """The same in overlapping tiles; iou_threshold and most as for `stitch`."""
    for path in paths:
        yield find_in_tiles_of(_decoded(path), runner, facts, batch_size, tiling, iou_threshold, most)


def find_in_tiles_of(
    image: Image.Image,
    runner: Runner,
    facts: ModelMetadata,
    batch_size: int,
    tiling: Tiling,
    iou_threshold: float,
    most: int,
) -> Detections:
    """The same in one image that is upright, RGB and in memory."""
    windows = tiles_of(*image.size, tiling)
    crops = (image.crop((left, top, right, bottom)) for left, top, right, bottom in windows.tolist())
    views = list(answers((letterbox(crop, facts.size, facts.fill) for crop in crops), runner, batch_size))
    placed = [_in_image(found, window) for found, window in zip(views, windows, strict=True)]
    return stitch(placed, windows, tiling, iou_threshold, most)


def answers(inputs: Iterable[Letterboxed], runner: Runner, batch_size: int) -> Iterator[Detections]:
    """What is found in each input, boxes in pixels of what was letterboxed."""
    rest = iter(inputs)
    while batch := list(itertools.islice(rest, batch_size)):
        found = runner(np.stack([seen.pixels.transpose(2, 0, 1) for seen in batch]))
        for seen, one in zip(batch, found, strict=True):
            yield one._replace(boxes_xyxy=one.boxes_xyxy.astype(np.float64) / seen.scale)


def _in_image(found: Detections, window: NDArray[np.int64]) -> Detections:
    """From pixels of a window (xyxy) to pixels of its image; boxes clipped to the window."""
    corner = np.tile(window[:2], 2)
    return found._replace(boxes_xyxy=(found.boxes_xyxy + corner).clip(corner, np.tile(window[2:], 2)))


def _letterboxed(path: Path, facts: ModelMetadata) -> Letterboxed:
    try:
        return load_letterboxed(path, facts.size, facts.fill)
    except UNREADABLE as error:
        raise UserError(f"{path}: the image cannot be read ({error})") from None


def in_memory(image: Image.Image) -> Image.Image:
    """An opened image, decoded in full, upright and RGB."""
    decoded = to_rgb(upright(image))
    decoded.info = {}  # or else every tile would be turned once more by the EXIF orientation
    return decoded


def _decoded(path: Path) -> Image.Image:
    try:
        with open_image(path) as image:
            return in_memory(image)
    except UNREADABLE as error:
        raise UserError(f"{path}: the image cannot be read ({error})") from None
