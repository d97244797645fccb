"""Which detections overlap which objects of their image and class, as columns."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.engine.detections import Predictions
from detector.engine.ground_truth import GroundTruth, ObjectColumns

IOUS = np.linspace(0.5, 0.95, 10)
MAX_DETECTIONS = 100  # per image and class, the best ones
AREAS = {"all": (0, 1e10), "small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}  # square pixels
SIZES = tuple(AREAS)
BLOCK = 50_000  # detections at once


class Objects(NamedTuple):
    """The annotations by class and image: cells int [A], class times N plus image, both as indices.

    rows int32 [A]: their places in `columns`, the ground truth's.
    """

    cells: NDArray[np.integer[Any]]
    rows: NDArray[np.int32]
    columns: ObjectColumns

    @property
    def ids(self) -> NDArray[np.integer[Any]]:
        """Of the annotations [A]."""
        return narrow(self.columns.ids[self.rows])

    @property
    def crowds(self) -> NDArray[np.bool_]:
        """Mask [A]."""
        return self.columns.crowds[self.rows]

    @property
    def areas(self) -> NDArray[np.float64]:
        """As annotated [A], in square pixels."""
        return self.columns.areas[self.rows]

    def boxes_xywh(self, places: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
        """The boxes [*, 4] at these places [*]."""
        boxes_xywh: NDArray[np.float64] = self.columns.boxes_xywh[self.rows[places]]
        return boxes_xywh


class Overlaps(NamedTuple):
    """Which detections overlap which objects of their image and class, from IoU 0.5: enough to match them.

    Detections that COCO evaluates, by class and image, best score first: cells int [D] as in `Objects`;
    prediction_indices int32 [D]; scores float64 [D]; size_bits uint16 [D]: bit k is set where the area is that of the
    k-th of SIZES. Pairs by detection: detections, partners int32 [P], indices of detections and objects; ious float64
    [P]. image_ids [N], category_ids [C]: sorted.
    """

    cells: NDArray[np.integer[Any]]
    prediction_indices: NDArray[np.integer[Any]]
    scores: NDArray[np.float64]
    size_bits: NDArray[np.uint16]
    detections: NDArray[np.int32]
    partners: NDArray[np.int32]
    ious: NDArray[np.float64]
    objects: Objects
    image_ids: NDArray[np.int64]
    category_ids: NDArray[np.int64]


def find_overlaps(truth: GroundTruth, predictions: Predictions) -> Overlaps:
    """truth: the objects to detect."""
    image_ids = truth.images.ids
    category_ids = np.arange(1, len(truth.names.classes) + 1)
    objects = _sort_objects(truth.objects, image_ids, category_ids)
    order = _order_detections(predictions, image_ids, category_ids)
    cells = number_cells(predictions.image_ids[order], predictions.category_ids[order], image_ids, category_ids)
    crowds = objects.crowds
    size_bits = np.zeros(len(order), np.uint16)
    empty = np.zeros(0, np.int32)
    parts = [(empty, empty, np.zeros(0))]
    for start in range(0, len(order), BLOCK):
        block = slice(start, start + BLOCK)
        boxes_xywh = predictions.select(order[block]).boxes_xywh
        for place, (low, high) in enumerate(AREAS.values()):
            areas = boxes_xywh[:, 2] * boxes_xywh[:, 3]
            size_bits[block] |= ((areas >= low) & (areas <= high)).astype(np.uint16) << place
        parts.append(_find_pairs(start, cells[block], boxes_xywh, objects, crowds))
    detections, partners, ious = (np.concatenate(columns) for columns in zip(*parts, strict=True))
    scores = predictions.scores[order]
    return Overlaps(cells, order, scores, size_bits, detections, partners, ious, objects, image_ids, category_ids)


def _order_detections(
    predictions: Predictions, image_ids: NDArray[np.int64], category_ids: NDArray[np.int64]
) -> NDArray[np.int32]:
    """Indices of the predictions that COCO evaluates, by class and image, best score first."""
    cells = number_cells(predictions.image_ids, predictions.category_ids, image_ids, category_ids)
    order = np.lexsort((-predictions.scores, cells)).astype(np.int32)
    cells = cells[order]
    return order[(cells >= 0) & (rank_in_runs(cells) < MAX_DETECTIONS)]


def number_cells(
    images: NDArray[np.int64],
    categories: NDArray[np.integer[Any]],
    image_ids: NDArray[np.int64],
    category_ids: NDArray[np.int64],
) -> NDArray[np.integer[Any]]:
    """The cell [D] of each image and category id, see `Objects`; -1 where one of them does not exist."""
    dtype = np.min_scalar_type(-max(1, len(image_ids) * len(category_ids)))
    cells = np.full(len(images), -1, np.promote_types(dtype, np.int32))
    for start in range(0, len(images), BLOCK):
        block = slice(start, start + BLOCK)
        column, row = (
            _find_places(values[block], known) for values, known in ((categories, category_ids), (images, image_ids))
        )
        cells[block] = np.where((column < 0) | (row < 0), -1, column * len(image_ids) + row)
    return cells


def _find_places(values: NDArray[np.integer[Any]], known: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place [*] of each value among the sorted known ones, -1 for another."""
    if not len(known):
        return np.full(len(values), -1)
    places = np.searchsorted(known, values)
    places[known[np.minimum(places, len(known) - 1)] != values] = -1
    return places


def _sort_objects(objects: ObjectColumns, image_ids: NDArray[np.int64], category_ids: NDArray[np.int64]) -> Objects:
    cells = number_cells(image_ids[objects.images], objects.categories, image_ids, category_ids)
    order = np.argsort(cells, kind="stable").astype(np.int32)
    order = order[cells[order] >= 0]
    return Objects(cells[order], order, objects)


def narrow(values: NDArray[np.int64]) -> NDArray[np.integer[Any]]:
    """The same whole numbers from 0 in as few bytes as they fit into."""
    return values.astype(np.min_scalar_type(-1 - int(values.max(initial=0))))


def _find_pairs(
    start: int,
    cells: NDArray[np.integer[Any]],
    boxes_xywh: NDArray[np.float64],
    objects: Objects,
    crowds: NDArray[np.bool_],
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
    """Detections, objects and IoUs [P] of the pairs of a block of detections, the first of which is number `start`."""
    rows, partners = pair_equal(cells, objects.cells)
    ious = pair_ious(boxes_xywh[rows], objects.boxes_xywh(partners), crowds[partners])
    near = ious >= IOUS[0]
    return (rows[near] + start).astype(np.int32), partners[near].astype(np.int32), ious[near]


def pair_equal(
    keys: NDArray[np.integer[Any]], sorted_keys: NDArray[np.integer[Any]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All pairs [P] of equal keys: indices of the first and of the second, by the first."""
    first = np.searchsorted(sorted_keys, keys)
    counts = np.searchsorted(sorted_keys, keys, side="right") - first
    rows = np.repeat(np.arange(len(keys)), counts)
    return rows, np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts - first, counts)


def pair_ious(
    boxes_xywh: NDArray[np.float64], objects_xywh: NDArray[np.float64], crowds: NDArray[np.bool_]
) -> NDArray[np.float64]:
    """IoU [P] of each box [P, 4] with its object [P, 4]; with a crowd, the part of the box on it."""
    ends = np.minimum(boxes_xywh[:, :2] + boxes_xywh[:, 2:], objects_xywh[:, :2] + objects_xywh[:, 2:])
    sides = (ends - np.maximum(boxes_xywh[:, :2], objects_xywh[:, :2])).clip(0)
    overlap, area = sides[:, 0] * sides[:, 1], boxes_xywh[:, 2] * boxes_xywh[:, 3]
    whole = np.where(crowds, area, area + objects_xywh[:, 2] * objects_xywh[:, 3] - overlap)
    ious: NDArray[np.float64] = np.divide(overlap, whole, out=np.zeros_like(overlap), where=overlap > 0)
    return ious


def rank_in_runs(keys: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """The place [D] of each of the sorted keys among its equals, from 0."""
    starts = np.flatnonzero(np.diff(keys, prepend=keys[:1] - 1))
    return np.arange(len(keys)) - np.repeat(starts, np.diff(np.append(starts, len(keys))))
