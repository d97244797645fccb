"""Detections matched to objects by COCO's rules, as columns that can be counted, weighted and resampled.

hotcoco gives its matches only as Python lists.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.engine.detections import Predictions
from detector.engine.ground_truth import GroundTruth, ObjectColumns

IOUS = np.linspace(0.5, 0.95, 10)
NUM_IOUS = len(IOUS)
MAX_DETECTIONS = 100  # per image and class, the best ones
AREAS = {"all": (0, 1e10), "small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e10)}  # square pixels
SIZES = tuple(AREAS)
BLOCK = 50_000  # detections at once


class Matches(NamedTuple):
    """All detections that COCO evaluates, best score first, for objects of any size.

    scores float64 [D]. images, categories int32 [D]: indices into image_ids [N] and category_ids [C].
    hits bool [10, D]: matched to an object at that IoU. ignored bool [10, D]: matched to a crowd, neither correct nor
    wrong. prediction_indices int32 [D]: indices into the predictions. annotation_ids int64 [D]: the annotation
    matched at IoU 0.5, or 0. object_counts int32 [N, C]: objects to detect.
    """

    scores: NDArray[np.float64]
    images: NDArray[np.integer[Any]]
    categories: NDArray[np.integer[Any]]
    hits: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    prediction_indices: NDArray[np.integer[Any]]
    annotation_ids: NDArray[np.int64]
    object_counts: NDArray[np.integer[Any]]
    image_ids: NDArray[np.int64]
    category_ids: NDArray[np.int64]

    def select_iou50(self) -> Matches:
        """The detections that count at IoU 0.5, without those on a crowd."""
        return self.select(~self.ignored[0])

    def select_images(self, mask: NDArray[np.bool_]) -> Matches:
        """Only the images [N] in the mask, with their objects."""
        new_index = np.cumsum(mask, dtype=np.int32) - 1
        part = self.select(mask[self.images])
        return part._replace(
            images=new_index[part.images], object_counts=self.object_counts[mask], image_ids=self.image_ids[mask]
        )

    def rank_detections(self) -> NDArray[np.int64]:
        """The rank [D] of each detection among those of its class in its image, 0 for the best."""
        keys = self.images.astype(np.int64) * self.object_counts.shape[1] + self.categories
        order = np.argsort(keys, kind="stable")  # within a key the best score still comes first
        ranks: NDArray[np.int64] = np.empty_like(keys)
        ranks[order] = _rank_in_runs(keys[order])
        return ranks

    def select(self, mask: NDArray[Any]) -> Matches:
        """The detections in the mask [D] or at these positions, with all objects."""
        return self._replace(
            scores=self.scores[mask],
            images=self.images[mask],
            categories=self.categories[mask],
            hits=self.hits[:, mask],
            ignored=self.ignored[:, mask],
            prediction_indices=self.prediction_indices[mask],
            annotation_ids=self.annotation_ids[mask],
        )


class Objects(NamedTuple):
    """The annotations by class and image: cells int64 [A], class times N plus image, both as indices.

    ids int64 [A]. boxes_xywh float64 [A, 4]. areas float64 [A], as annotated. crowds bool [A].
    """

    cells: NDArray[np.int64]
    ids: NDArray[np.int64]
    boxes_xywh: NDArray[np.float64]
    areas: NDArray[np.float64]
    crowds: NDArray[np.bool_]


class Overlaps(NamedTuple):
    """Which detections overlap which objects of their image and class, from IoU 0.5: enough to match them.

    Detections that COCO evaluates, by class and image, best score first: cells int64 [D] as in `Objects`;
    prediction_indices int32 [D]; scores, areas float64 [D]. Pairs by detection: detections, partners int32 [P], indices
    of detections and objects; ious float64 [P]. image_ids [N], category_ids [C]: sorted.
    """

    cells: NDArray[np.int64]
    prediction_indices: NDArray[np.integer[Any]]
    scores: NDArray[np.float64]
    areas: NDArray[np.float64]
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
    all_cells = number_cells(predictions.image_ids, predictions.category_ids, image_ids, category_ids)
    scores = predictions.scores
    order = np.lexsort((-scores, all_cells))
    cells = all_cells[order]
    order = order[(cells >= 0) & (_rank_in_runs(cells) < MAX_DETECTIONS)].astype(np.int32)
    cells, boxes_xywh = all_cells[order], predictions.boxes_xywh[order]
    parts = [
        _find_pairs(slice(start, start + BLOCK), cells, boxes_xywh, objects) for start in range(0, len(cells), BLOCK)
    ]
    empty = np.zeros(0, np.int32)
    detections, partners, ious = (
        np.concatenate(columns) for columns in zip(*parts, (empty, empty, np.zeros(0)), strict=True)
    )
    areas = boxes_xywh[:, 2] * boxes_xywh[:, 3]
    return Overlaps(cells, order, scores[order], areas, detections, partners, ious, objects, image_ids, category_ids)


def number_cells(
    images: NDArray[np.int64],
    categories: NDArray[np.integer[Any]],
    image_ids: NDArray[np.int64],
    category_ids: NDArray[np.int64],
) -> NDArray[np.int64]:
    """The cell [D] of each image and category id, see `Objects`; -1 where one of them does not exist."""
    places = []
    for values, known in ((categories, category_ids), (images, image_ids)):
        places.append(np.searchsorted(known, values))
        places[-1][~np.isin(values, known)] = -1
    column, row = places
    return np.where((column < 0) | (row < 0), -1, column * len(image_ids) + row)


def _sort_objects(objects: ObjectColumns, image_ids: NDArray[np.int64], category_ids: NDArray[np.int64]) -> Objects:
    cells = number_cells(image_ids[objects.images], objects.categories, image_ids, category_ids)
    order = np.argsort(cells, kind="stable")
    order = order[cells[order] >= 0]
    columns = (cells, objects.ids, objects.boxes_xywh, objects.areas, objects.crowds)
    return Objects._make(column[order] for column in columns)


def _find_pairs(
    block: slice, cells: NDArray[np.int64], boxes_xywh: NDArray[np.float64], objects: Objects
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float64]]:
    """Detections, objects and IoUs [P] of the pairs of a block of detections."""
    rows, partners = pair_equal(cells[block], objects.cells)
    detections = rows + block.start
    ious = pair_ious(boxes_xywh[detections], objects.boxes_xywh[partners], objects.crowds[partners])
    near = ious >= IOUS[0]
    return detections[near].astype(np.int32), partners[near].astype(np.int32), ious[near]


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


def collect_matches(overlaps: Overlaps, size: str = "all", keep_ids: NDArray[np.int64] | None = None) -> Matches:
    """Match by COCO's rules; equal scores are ordered by image and class.

    size: one of SIZES; as in COCO, objects of another size are ignored. keep_ids: ids of annotations; all other
    annotations are ignored likewise, though detections are matched to them.
    """
    low, high = AREAS[size]
    objects, images = overlaps.objects, len(overlaps.image_ids)
    ignored_objects = objects.crowds | (objects.areas < low) | (objects.areas > high)
    dropped = ignored_objects
    if keep_ids is not None:
        dropped = ignored_objects | ~np.isin(objects.ids, keep_ids)
    hits = np.zeros((NUM_IOUS, len(overlaps.cells)), bool)
    ignored = np.tile((overlaps.areas < low) | (overlaps.areas > high), (NUM_IOUS, 1))
    annotation_ids = np.zeros(len(overlaps.cells), np.int64)
    starts = np.flatnonzero(np.diff(overlaps.cells[overlaps.detections], prepend=-1))  # of cells, among the pairs
    bounds = np.append(np.unique(starts[np.searchsorted(starts, starts // BLOCK * BLOCK)]), len(overlaps.detections))
    for start, end in pairwise(bounds.tolist()):
        ious, detections, partners = _match_pairs(overlaps, slice(start, end), ignored_objects)
        hits[ious, detections] = True
        ignored[ious, detections] = dropped[partners]
        annotation_ids[detections[ious == 0]] = objects.ids[partners[ious == 0]]
    columns, rows = np.divmod(overlaps.cells, max(1, images))
    order = np.lexsort((columns, rows, -overlaps.scores))
    cells = objects.cells[~dropped]
    counts = np.bincount(cells, minlength=images * len(overlaps.category_ids)).astype(np.int32)
    return Matches(
        scores=overlaps.scores[order],
        images=rows[order].astype(np.int32),
        categories=columns[order].astype(np.int32),
        hits=hits[:, order],
        ignored=ignored[:, order],
        prediction_indices=overlaps.prediction_indices[order],
        annotation_ids=annotation_ids[order],
        object_counts=np.ascontiguousarray(counts.reshape(len(overlaps.category_ids), images).T),
        image_ids=overlaps.image_ids,
        category_ids=overlaps.category_ids,
    )


def _match_pairs(
    overlaps: Overlaps, block: slice, ignored_objects: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
    """The IoU's row, the detection and the object [M] of each match among the pairs of whole cells.

    In each cell the best detection chooses first, among the objects that are free at that IoU: one that is not ignored,
    of these the one with the highest IoU, of equal ones the last. A crowd is always free. The n-th detections of all
    cells choose at once.
    """
    detections, partners, ious = (column[block] for column in (overlaps.detections, overlaps.partners, overlaps.ious))
    is_first = np.diff(detections, prepend=-1) > 0
    turns = _rank_in_runs(overlaps.cells[detections[is_first]])[np.cumsum(is_first) - 1]  # [P]
    order = np.lexsort((ious, ~ignored_objects[partners], detections, turns))
    detections, partners, ious = detections[order], partners[order], ious[order]
    reached = ious >= np.minimum(IOUS, 1 - 1e-10)[:, None]  # [10, P]
    crowds = overlaps.objects.crowds[partners]
    places = partners - partners.min()
    taken = np.zeros((NUM_IOUS, int(places.max()) + 1), bool)
    found = []
    for start, end in pairwise(np.searchsorted(turns[order], np.arange(turns.max() + 2)).tolist()):
        part = slice(start, end)
        free = reached[:, part] & (~taken[:, places[part]] | crowds[part])
        starts = np.flatnonzero(np.diff(detections[part], prepend=-1))
        best = np.maximum.reduceat(np.where(free, np.arange(start, end), -1), starts, axis=1)  # [10, detections]
        rows, columns = np.nonzero(best >= 0)
        chosen = best[rows, columns]
        taken[rows, places[chosen]] = True
        found.append((rows, detections[chosen], partners[chosen]))
    rows, chosen_detections, chosen_partners = (np.concatenate(columns) for columns in zip(*found, strict=True))
    return rows, chosen_detections, chosen_partners


def _rank_in_runs(keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """The place [D] of each of the sorted keys among its equals, from 0."""
    starts = np.flatnonzero(np.diff(keys, prepend=keys[:1] - 1))
    return np.arange(len(keys)) - np.repeat(starts, np.diff(np.append(starts, len(keys))))
