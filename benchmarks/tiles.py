"""Recall and precision of `tools/predict.py` on large images, whole and in tiles of several sizes.

command  python -m benchmarks.tiles MODEL COCO
time     a few minutes on 2 cores

MODEL is an exported file, and COCO a file of coco-convert with images that it was not trained on, such as
data/coco/test.json; run it in the folder that the file's paths are relative to. Large images are generated from these:
each is a grid of SIDE x SIDE images in their own size, so its objects are as large in pixels as those of the dataset.
An object is found if a detection of its class above the operating threshold overlaps it with an IoU of at least 0.5.
The first row is what the model reaches on the same images one by one.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.table import format_head, format_row, format_seconds
from benchmarks.timing import log_progress, measure_seconds
from detector.core.boxes import pairwise_iou_xyxy, xywh_to_xyxy
from detector.core.errors import UserError, run_command
from detector.core.images import load_rgb
from detector.core.pixels import letterbox
from detector.engine.coco_stream import read_ground_truth
from detector.engine.detections import Detections
from detector.engine.ground_truth import GroundTruth
from detector.inference.thresholds import apply_thresholds
from detector.runners.model_metadata import ModelMetadata
from detector.runners.onnx_runner import open_onnx
from detector.runners.tiled import Runner, detect_image_in_tiles, run_batched
from detector.runners.tiling import Tiling, choose_tiling, compute_windows

SIDE = 5  # images in a row, and rows
COUNT = 2  # large images
FACTORS = (0.5, 0.75, 1.0, 1.5, 2.0)  # of the automatic tile
BATCH = 8
MIN_IOU = 0.5
HEAD = (
    "tile in pixels",
    "overlap",
    "whole image too",
    "model runs per image",
    "recall",
    "precision",
    "seconds per image",
)


class LargeImage(NamedTuple):
    """boxes_xyxy float [N, 4] in pixels; labels int [N]."""

    image: Image.Image
    boxes_xyxy: NDArray[np.float64]
    labels: NDArray[np.int64]


def main() -> None:
    if len(sys.argv) != 3:
        raise UserError("expected MODEL COCO: an exported file, and a COCO file of coco-convert")
    metadata, runner = open_onnx(Path(sys.argv[1]), 2)
    if metadata.object_size is None:
        raise UserError(f"{sys.argv[1]}: the model file has no `object_size`; `dvc repro export` adds it")
    truth = read_ground_truth(Path(sys.argv[2])).keep_present()
    images = list(make_grids(truth, metadata.fill, SIDE))
    if not images:
        raise UserError(f"{sys.argv[2]}: expected at least {SIDE * SIDE} images, got {len(truth.images.ids)}")
    objects, (width, height) = sum(len(one.labels) for one in images), images[0].image.size
    print(f"{metadata.model}, {len(images)} images of {width}x{height} pixels, {objects:,} objects\n")
    print(format_head(HEAD))
    alone = list(make_grids(truth, metadata.fill, 1))[: SIDE**2 * len(images)]
    print(format_row(["images one by one", *measure(alone, None, metadata, runner)[1:]]), flush=True)
    automatic = choose_tiling(metadata.object_size)
    tilings = [automatic._replace(side=round(automatic.side * factor)) for factor in FACTORS]
    for tiling in (None, *tilings, automatic._replace(whole_image=True)):
        print(format_row(measure(images, tiling, metadata, runner)), flush=True)


def make_grids(truth: GroundTruth, fill: tuple[int, int, int], side: int) -> Iterator[LargeImage]:
    """Yield grids of side x side of the dataset's first images; those that do not fill a grid are left out."""
    sizes, objects = truth.images.sizes, truth.objects
    used = list(range(min(len(sizes), COUNT * SIDE**2)))
    for part in (used[first : first + side**2] for first in range(0, len(used) - side**2 + 1, side**2)):
        height, width = sizes[part].max(axis=0).tolist()
        grid = Image.new("RGB", (side * width, side * height), fill)
        boxes, labels = [np.zeros((0, 4))], list[int]()
        for place, image in enumerate(part):
            left, top = place % side * width, place // side * height
            grid.paste(load_rgb(Path(truth.images.files[image])), (left, top))
            found = objects.select(objects.images == image)
            boxes.append(xywh_to_xyxy(found.boxes_xywh) + np.array([left, top, left, top]))
            labels += found.categories.tolist()
        yield LargeImage(grid, np.concatenate(boxes), np.array(labels, np.int64))


def measure(images: list[LargeImage], tiling: Tiling | None, metadata: ModelMetadata, runner: Runner) -> list[str]:
    """The row of one tiling; None: the whole image only."""
    log_progress("whole images" if tiling is None else f"tiles of {tiling.side} pixels")
    detected: list[Detections] = []
    seconds = measure_seconds(lambda: detected.extend(detect(one.image, tiling, metadata, runner) for one in images))
    correct = detections = 0
    for image, found in zip(images, detected, strict=True):
        kept = apply_thresholds(found, metadata)
        correct += count_correct(kept, image)
        detections += len(kept.labels)
    objects = sum(len(one.labels) for one in images)
    runs = sum(1 if tiling is None else len(compute_windows(*one.image.size, tiling)) for one in images)
    form = (
        ["none, the whole image", "", "yes"]
        if tiling is None
        else [str(tiling.side), f"{tiling.overlap:g}", "yes" * tiling.whole_image]
    )
    shares = [f"{correct / objects:.3f}", f"{correct / max(1, detections):.3f}"]
    return [*form, f"{runs / len(images):g}", *shares, format_seconds(seconds / len(images))]


def detect(image: Image.Image, tiling: Tiling | None, metadata: ModelMetadata, runner: Runner) -> Detections:
    """Detect as `tools/predict.py` does."""
    if tiling is None:
        return next(run_batched([letterbox(image, metadata.size, metadata.fill)], runner, BATCH))
    limit = metadata.max_detections * len(compute_windows(*image.size, tiling))
    return detect_image_in_tiles(
        image, runner, metadata, BATCH, tiling=tiling, iou_threshold=metadata.nms_iou, max_detections=limit
    )


def count_correct(found: Detections, image: LargeImage) -> int:
    """How many detections, best first, find an object that no better one has found."""
    if not len(image.labels):
        return 0
    ious = pairwise_iou_xyxy(found.boxes_xyxy, image.boxes_xyxy) * (found.labels[:, None] == image.labels)
    taken = np.zeros(len(image.labels), bool)
    for row in np.argsort(-found.scores, kind="stable"):
        free = np.where(taken, 0.0, ious[row])
        taken[free.argmax()] |= free.max() >= MIN_IOU
    return int(taken.sum())


if __name__ == "__main__":
    run_command(main)
