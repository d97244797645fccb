"""Split large images into overlapping tiles, and merge the detections of the tiles into those of the image.

Follows SAHI (Akyon et al. 2022, "Slicing Aided Hyper Inference and Fine-Tuning for Small Object Detection"): all
tiles have the same size, the last ones are moved back into the image, the whole image is processed too, and boxes are
compared by the covered fraction of the smaller one. Unlike SAHI, it tracks which boxes are cut by a tile edge.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.core.boxes import area_xyxy
from detector.core.errors import UserError
from detector.engine.detections import Detections

MIN_TILE_SIDE = 32  # pixels, the same minimum as for a model input
# A box that ends closer to an inner edge than this fraction of the tile's side counts as cut by it.
EDGE_FRACTION = 0.01
# A cut box is suppressed by an uncut box of its class that covers this fraction of it (SAHI's threshold) ...
MIN_COVERED_FRACTION = 0.5
# ... unless its score is more than twice as high: then the uncut box is not a better detection of the same object.
CUT_SCORE_FACTOR = 0.5


class Tiling(NamedTuple):
    """side: of the square tiles, in pixels of the image; overlap: of neighboring tiles, as a fraction of the side."""

    side: int
    overlap: float


def make_tiling(side: int, overlap: float) -> Tiling:
    """Validate the command-line options --tile and --overlap. Raises UserError naming the invalid one."""
    if side < MIN_TILE_SIDE:
        raise UserError(f"--tile {side}: a tile needs at least {MIN_TILE_SIDE} pixels")
    if not 0 <= overlap <= 0.9:
        raise UserError(f"--overlap {overlap}: expected a fraction from 0 to 0.9")
    return Tiling(side, overlap)


def compute_windows(width: int, height: int, tiling: Tiling) -> NDArray[np.int64]:
    """Return the windows [T, 4], xyxy in pixels, that cover an image, row by row; the last is the whole image.

    An object whose sides are at most overlap * side lies entirely inside at least one of them. An image that fits into
    one tile gets one window.
    """
    step = max(1, tiling.side - int(tiling.side * tiling.overlap + 0.5))
    lefts, tops = (_window_starts(length, tiling.side, step) for length in (width, height))
    tiles = [
        (left, top, min(left + tiling.side, width), min(top + tiling.side, height)) for top in tops for left in lefts
    ]
    whole = (0, 0, width, height)
    return np.array(tiles if tiles == [whole] else [*tiles, whole], np.int64)


def _window_starts(length: int, side: int, step: int) -> list[int]:
    return [0] if length <= side else [*range(0, length - side, step), length - side]


def stitch(
    per_window: list[Detections], windows: NDArray[np.int64], tiling: Tiling, iou_threshold: float, max_detections: int
) -> Detections:
    """Merge the detections of an image's windows [T, 4], with boxes in pixels of the image.

    Per class and best first, a box is dropped if a better one overlaps it by more than iou_threshold, and so is a cut
    box that an uncut one covers. Boxes from the whole-image window that would fit into half an overlap are ignored:
    they lie entirely inside a tile, where the object appears larger.
    """
    kept_views = [
        _drop_small_boxes(view, window, windows, tiling) for view, window in zip(per_window, windows, strict=True)
    ]
    cut = np.concatenate(
        [is_cut(view.boxes_xyxy, window, windows[-1]) for view, window in zip(kept_views, windows, strict=True)]
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


def _drop_small_boxes(
    view: Detections, window: NDArray[np.int64], windows: NDArray[np.int64], tiling: Tiling
) -> Detections:
    """Drop the small boxes of the whole-image window if there are tiles too."""
    if len(windows) == 1 or (window != windows[-1]).any():
        return view
    sides = (view.boxes_xyxy[:, 2:] - view.boxes_xyxy[:, :2]).max(axis=1)
    return view.select(sides >= tiling.side * tiling.overlap / 2)


def _suppress(
    boxes_xyxy: NDArray[np.float64], cut: NDArray[np.bool_], iou_threshold: float, max_detections: int
) -> NDArray[np.bool_]:
    """Apply greedy NMS to the boxes [N, 4] of one class, best first, until max_detections are kept: bool [N]."""
    areas = np.maximum(area_xyxy(boxes_xyxy), 1e-9)
    kept, candidates = np.zeros(len(cut), bool), np.ones(len(cut), bool)
    for index in range(len(cut)):
        if not candidates[index]:
            continue
        kept[index] = True
        if kept.sum() == max_detections:
            break
        left_top = np.maximum(boxes_xyxy[index, :2], boxes_xyxy[:, :2])
        size = np.clip(np.minimum(boxes_xyxy[index, 2:], boxes_xyxy[:, 2:]) - left_top, 0, None)
        intersection = size[:, 0] * size[:, 1]
        candidates &= intersection <= iou_threshold * (areas[index] + areas - intersection)
        if not cut[index]:
            candidates &= ~cut | (intersection < MIN_COVERED_FRACTION * areas)
    return kept
