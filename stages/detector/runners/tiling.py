"""Split large images into overlapping tiles, and merge the detections of the tiles into those of the image.

Follows SAHI (Akyon et al. 2022, "Slicing Aided Hyper Inference and Fine-Tuning for Small Object Detection"): all
tiles have the same size, the last ones are moved back into the image, the whole image is processed too, and boxes are
compared by the covered fraction of the smaller one. Unlike SAHI, it tracks which boxes are cut by a tile edge.

Tiles chosen by `choose_tiling` show objects as large as in training, and the whole image is left out: it would show
them many times smaller, and what the model finds in it are mostly mistakes (docs/predict.md has the figures).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.core.boxes import area_xyxy
from detector.core.errors import UserError
from detector.engine.detections import Detections
from detector.runners.model_metadata import ObjectSize

AUTO = "auto"  # the tiles of `choose_tiling`
OVERLAP = 0.2  # of neighboring tiles with a given side, as a fraction of it
MIN_TILE_SIDE = 32  # pixels, the same minimum as for a model input
MIN_AUTO_OVERLAP, MAX_AUTO_OVERLAP = 0.2, 0.5
# A box that ends closer to an inner edge than this fraction of the tile's side counts as cut by it.
EDGE_FRACTION = 0.01
# A cut box is suppressed by an uncut box of its class that covers this fraction of it (SAHI's threshold) ...
MIN_COVERED_FRACTION = 0.5
# ... unless its score is more than twice as high: then the uncut box is not a better detection of the same object.
CUT_SCORE_FACTOR = 0.5
MAX_PAIRS = 200_000  # of boxes compared at once: about 30 MB


class Tiling(NamedTuple):
    """side: of the square tiles, in pixels of the image; overlap: of neighboring tiles, as a fraction of the side.

    whole_image: whether the image is processed as a whole too, for objects larger than a tile.
    """

    side: int
    overlap: float
    whole_image: bool = True


def make_tiling(side: int, overlap: float) -> Tiling:
    """Validate the command-line options --tile and --overlap. Raises UserError naming the invalid one."""
    if side < MIN_TILE_SIDE:
        raise UserError(f"--tile {side}: a tile needs at least {MIN_TILE_SIDE} pixels")
    if not 0 <= overlap <= 0.9:
        raise UserError(f"--overlap {overlap}: expected a fraction from 0 to 0.9")
    return Tiling(side, overlap)


def choose_tiling(trained_on: ObjectSize | None) -> Tiling:
    """Tiles for images whose objects are as large in pixels as in the training images.

    A tile is as large as a training image, so that the model sees its objects as it did in training. The overlap is the
    size of large objects (their 90th percentile), so that these too lie entirely in one tile.
    Raises UserError for a model that does not know the size of its training images.
    """
    if trained_on is None:
        raise UserError(f"tile {AUTO}: the model file has no `object_size`; `dvc repro export` adds it, or name a side")
    side = max(MIN_TILE_SIDE, trained_on.image_side)
    overlap = math.ceil(20 * trained_on.p90 / side) / 20
    return Tiling(side, min(max(MIN_AUTO_OVERLAP, overlap), MAX_AUTO_OVERLAP), whole_image=False)


def compute_windows(width: int, height: int, tiling: Tiling) -> NDArray[np.int64]:
    """Return the windows [T, 4], xyxy in pixels, that cover an image, row by row; then the whole image, if asked for.

    An object whose sides are at most overlap * side lies entirely inside at least one of them. An image that fits into
    one tile gets one window.
    """
    lefts, tops = ([*_inner_starts(length, tiling), max(0, length - tiling.side)] for length in (width, height))
    tiles = [
        (left, top, min(left + tiling.side, width), min(top + tiling.side, height)) for top in tops for left in lefts
    ]
    whole = (0, 0, width, height)
    return np.array([*tiles, whole] if tiling.whole_image and tiles != [whole] else tiles, np.int64)


def count_windows(width: int, height: int, tiling: Tiling) -> int:
    """Return the number of `compute_windows`, without building them: an image may have millions."""
    columns, rows = (len(_inner_starts(length, tiling)) + 1 for length in (width, height))
    return columns * rows + (tiling.whole_image and columns * rows > 1)


def _inner_starts(length: int, tiling: Tiling) -> range:
    """Where tiles start along a side of the image, except for the last one, which ends with it."""
    step = max(1, tiling.side - int(tiling.side * tiling.overlap + 0.5))
    return range(0, length - tiling.side, step)


def stitch(
    per_window: list[Detections], windows: NDArray[np.int64], tiling: Tiling, iou_threshold: float, max_detections: int
) -> Detections:
    """Merge the detections of an image's windows [T, 4], with boxes in pixels of the image.

    Per class and best first, a box is dropped if a better one overlaps it by more than iou_threshold, and so is a cut
    box that an uncut one covers. Boxes from the whole-image window that would fit into half an overlap are ignored:
    they lie entirely inside a tile, where the object appears larger.
    """
    image = np.array([0, 0, *windows[:, 2:].max(axis=0)])
    kept_views = [
        _drop_small_boxes(view, tiling) if len(windows) > 1 and (window == image).all() else view
        for view, window in zip(per_window, windows, strict=True)
    ]
    cut = np.concatenate(
        [is_cut(view.boxes_xyxy, window, image) for view, window in zip(kept_views, windows, strict=True)]
    )
    merged = Detections._make(np.concatenate(columns) for columns in zip(*kept_views, strict=True))
    order = np.argsort(-np.where(cut, CUT_SCORE_FACTOR, 1.0) * merged.scores, kind="stable")
    merged, cut = merged.select(order), cut[order]
    kept = np.zeros(len(cut), bool)
    for label in np.unique(merged.labels):
        indices = np.flatnonzero(merged.labels == label)
        kept[indices] = _suppress(merged.boxes_xyxy[indices], cut[indices], iou_threshold, max_detections)
    best = merged.select(kept)
    return best.select(np.argsort(-best.scores, kind="stable")[:max_detections])


def is_cut(boxes_xyxy: NDArray[np.float64], window: NDArray[np.int64], image: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return whether boxes [N, 4] end at a window edge that is not an image edge (both xyxy): bool [N]."""
    inner = window != image
    margin = EDGE_FRACTION * (window[2:] - window[:2]).max()
    return np.asarray((inner & (np.abs(boxes_xyxy - window) < margin)).any(axis=1))


def _drop_small_boxes(whole: Detections, tiling: Tiling) -> Detections:
    """Drop the small boxes of the whole-image window."""
    sides = (whole.boxes_xyxy[:, 2:] - whole.boxes_xyxy[:, :2]).max(axis=1)
    return whole.select(sides >= tiling.side * tiling.overlap / 2)


def _suppress(
    boxes_xyxy: NDArray[np.float64], cut: NDArray[np.bool_], iou_threshold: float, max_detections: int
) -> NDArray[np.bool_]:
    """Apply greedy NMS to the boxes [N, 4] of one class, best first, until max_detections are kept: bool [N]."""
    better, worse = _find_suppressions(boxes_xyxy, cut, iou_threshold)
    starts = np.searchsorted(better, np.arange(len(cut) + 1))
    kept, candidates = np.zeros(len(cut), bool), np.ones(len(cut), bool)
    for index in range(len(cut)):
        if candidates[index]:
            kept[index] = True
            candidates[worse[starts[index] : starts[index + 1]]] = False
            if max_detections == 1:
                break
            max_detections -= 1
    return kept


def _find_suppressions(
    boxes_xyxy: NDArray[np.float64], cut: NDArray[np.bool_], iou_threshold: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return pairs of boxes [P], [P] of which the first, if it is kept, suppresses the second; sorted by the first.

    Only boxes that overlap from left to right are compared: an image of many tiles has tens of thousands of boxes.
    """
    by_left = np.argsort(boxes_xyxy[:, 0], kind="stable")
    lefts, areas = boxes_xyxy[by_left, 0], np.maximum(area_xyxy(boxes_xyxy), 1e-9)
    # Of the boxes in the order of their left edges, those after box n up to its right edge begin inside it.
    counts = np.searchsorted(lefts, boxes_xyxy[by_left, 2]) - np.arange(1, len(lefts) + 1)
    found = [np.zeros((2, 0), np.int64)]
    for rows in _group_rows(np.maximum(counts, 0)):
        firsts = np.repeat(rows, counts[rows])
        offsets = np.arange(len(firsts)) - np.repeat(np.cumsum(counts[rows]) - counts[rows], counts[rows])
        pairs = np.sort([by_left[firsts], by_left[firsts + 1 + offsets]], axis=0)
        size = np.minimum(*boxes_xyxy[pairs, 2:]) - np.maximum(*boxes_xyxy[pairs, :2])
        intersection = np.clip(size, 0, None).prod(axis=1)
        area, other_area = areas[pairs]
        is_same = intersection > iou_threshold * (area + other_area - intersection)
        is_covered = ~cut[pairs[0]] & cut[pairs[1]] & (intersection >= MIN_COVERED_FRACTION * other_area)
        found.append(pairs[:, is_same | is_covered])
    better, worse = np.concatenate(found, axis=1)
    order = np.argsort(better, kind="stable")
    return better[order], worse[order]


def _group_rows(counts: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Return the indices of rows that have pairs, in groups of about MAX_PAIRS pairs."""
    rows = np.flatnonzero(counts)
    ends = np.searchsorted(np.cumsum(counts[rows]), np.arange(MAX_PAIRS, counts.sum(), MAX_PAIRS))
    return [group for group in np.split(rows, ends) if len(group)]
