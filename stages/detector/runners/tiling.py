"""Large images in overlapping tiles, and the detections of the tiles stitched into those of the image.

After SAHI (Akyon et al. 2022, "Slicing Aided Hyper Inference and Fine-Tuning for Small Object Detection"):
tiles of one size with the last ones moved back into the image, the whole image looked at besides, and boxes
compared by how much of the smaller one is covered. Other than SAHI it knows which boxes a tile's edge cuts.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.core.boxes import area_xyxy
from detector.core.errors import UserError
from detector.engine.detections import Detections

SMALLEST_TILE = 32  # pixels, as for a model's input
# A box that ends closer to an inner edge than this share of the tile's side is taken for cut by it.
EDGE = 0.01
# A cut box gives way to a whole one of its class that covers this share of it (SAHI's threshold) ...
COVERED = 0.5
# ... unless its score is more than twice as high: then the whole one is not the same object found better.
WORTH = 0.5


class Tiling(NamedTuple):
    """side: of the square tiles, in pixels of the image; overlap: of neighbours, as a share of the side."""

    side: int
    overlap: float


def tiling_of(side: int, overlap: float) -> Tiling:
    """The tiling that a command was given as --tile and --overlap. Raises UserError naming the wrong one."""
    if side < SMALLEST_TILE:
        raise UserError(f"--tile {side}: a tile needs at least {SMALLEST_TILE} pixels")
    if not 0 <= overlap <= 0.9:
        raise UserError(f"--overlap {overlap}: expected a share from 0 to 0.9")
    return Tiling(side, overlap)


def tiles_of(width: int, height: int, tiling: Tiling) -> NDArray[np.int64]:
    """Windows [T, 4], xyxy in pixels, that cover an image, row by row; the last is the whole image.

    An object whose sides are at most overlap * side lies wholly inside at least one of them. An image that
    fits into a tile is one window.
    """
    step = max(1, tiling.side - int(tiling.side * tiling.overlap + 0.5))
    lefts, tops = (_starts(length, tiling.side, step) for length in (width, height))
    tiles = [
        (left, top, min(left + tiling.side, width), min(top + tiling.side, height)) for top in tops for left in lefts
    ]
    whole = (0, 0, width, height)
    return np.array(tiles if tiles == [whole] else [*tiles, whole], np.int64)


def _starts(length: int, side: int, step: int) -> list[int]:
    return [0] if length <= side else [*range(0, length - side, step), length - side]


def stitch(
    found: list[Detections], windows: NDArray[np.int64], tiling: Tiling, iou_threshold: float, most: int
) -> Detections:
    """The detections of an image from those of its windows [T, 4], with boxes in pixels of the image.

    Within a class, and best first, a box is dropped that a better one overlaps by more than iou_threshold; and
    a cut box that a whole one covers. Of the whole image's boxes, those that would fit into half an overlap do
    not count: they lie wholly inside a tile, where they are seen larger. At most `most` are returned.
    """
    views = [_of_use(view, window, windows, tiling) for view, window in zip(found, windows, strict=True)]
    cut = np.concatenate(
        [is_cut(view.boxes_xyxy, window, windows[-1]) for view, window in zip(views, windows, strict=True)]
    )
    together = Detections._make(np.concatenate(columns) for columns in zip(*views, strict=True))
    order = np.argsort(-np.where(cut, WORTH, 1.0) * together.scores, kind="stable")
    together, cut = together.chosen(order), cut[order]
    kept = np.zeros(len(cut), bool)
    for label in np.unique(together.labels):
        places = np.flatnonzero(together.labels == label)
        kept[places] = _kept(together.boxes_xyxy[places], cut[places], iou_threshold, most)
    best = together.chosen(kept)
    return best.chosen(np.argsort(-best.scores, kind="stable")[:most])


def is_cut(boxes_xyxy: NDArray[np.float64], window: NDArray[np.int64], image: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether boxes [N, 4] end at an edge of their window that is no edge of the image (both xyxy): bool [N]."""
    inner = window != image
    margin = EDGE * (window[2:] - window[:2]).max()
    return np.asarray((inner & (np.abs(boxes_xyxy - window) < margin)).any(axis=1))


def _of_use(view: Detections, window: NDArray[np.int64], windows: NDArray[np.int64], tiling: Tiling) -> Detections:
    """Without the small boxes of the whole image, where there are tiles too."""
    if len(windows) == 1 or (window != windows[-1]).any():
        return view
    sides = (view.boxes_xyxy[:, 2:] - view.boxes_xyxy[:, :2]).max(axis=1)
    return view.chosen(sides >= tiling.side * tiling.overlap / 2)


def _kept(
    boxes_xyxy: NDArray[np.float64], cut: NDArray[np.bool_], iou_threshold: float, most: int
) -> NDArray[np.bool_]:
    """Greedy NMS over the boxes [N, 4] of one class in their order, which ends when `most` are kept: bool [N]."""
    areas = np.maximum(area_xyxy(boxes_xyxy), 1e-9)
    kept, open_ = np.zeros(len(cut), bool), np.ones(len(cut), bool)
    for place in range(len(cut)):
        if not open_[place]:
            continue
        kept[place] = True
        if kept.sum() == most:
            break
        left_top = np.maximum(boxes_xyxy[place, :2], boxes_xyxy[:, :2])
        size = np.clip(np.minimum(boxes_xyxy[place, 2:], boxes_xyxy[:, 2:]) - left_top, 0, None)
        common = size[:, 0] * size[:, 1]
        open_ &= common <= iou_threshold * (areas[place] + areas - common)
        if not cut[place]:
            open_ &= ~cut | (common < COVERED * areas)
    return kept
