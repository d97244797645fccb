"""Detections matched to objects by COCO's rules, as columns that can be counted, weighted and resampled.

hotcoco gives its matches only as Python lists.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.overlaps import AREAS, BLOCK, IOUS, SIZES, Overlaps, narrow, rank_in_runs

NUM_IOUS = len(IOUS)
ALL_BITS = 2**NUM_IOUS - 1  # of `Matches`


class Matches(NamedTuple):
    """All detections that COCO evaluates, best score first, for objects of any size.

    scores float64 [D]. images, categories int32 [D]: indices into image_ids [N] and category_ids [C].
    hit_bits, ignored_bits uint16 [D]: bit k is set where the detection is matched to an object at the k-th IoU, and
    where it is matched to a crowd, neither correct nor wrong. prediction_indices int32 [D]: indices into the
    predictions. annotation_ids int [D]: the annotation matched at IoU 0.5, or 0. object_counts int [N, C]: objects to
    detect, in as few bytes as they fit into.
    """

    scores: NDArray[np.float64]
    images: NDArray[np.integer[Any]]
    categories: NDArray[np.integer[Any]]
    hit_bits: NDArray[np.uint16]
    ignored_bits: NDArray[np.uint16]
    prediction_indices: NDArray[np.integer[Any]]
    annotation_ids: NDArray[np.integer[Any]]
    object_counts: NDArray[np.integer[Any]]
    image_ids: NDArray[np.int64]
    category_ids: NDArray[np.int64]

    def hits(self, iou: int = 0) -> NDArray[np.bool_]:
        """Mask [D] of the detections matched to an object, perhaps a crowd, at an IoU, by its place among IOUS."""
        return read_bit(self.hit_bits, iou)

    def ignored(self, iou: int = 0) -> NDArray[np.bool_]:
        """Mask [D] of the detections matched to a crowd at an IoU, by its place among IOUS."""
        return read_bit(self.ignored_bits, iou)

    def select_iou50(self) -> Matches:
        """The detections that count at IoU 0.5, without those on a crowd."""
        return self.select(~self.ignored())

    def select_images(self, mask: NDArray[np.bool_]) -> Matches:
        """Only the images [N] in the mask, with their objects."""
        new_index = np.cumsum(mask, dtype=np.int32) - 1
        part = self.select(mask[self.images])
        return part._replace(
            images=new_index[part.images], object_counts=self.object_counts[mask], image_ids=self.image_ids[mask]
        )

    def rank_detections(self) -> NDArray[np.int32]:
        """The rank [D] of each detection among those of its class in its image, 0 for the best."""
        keys = self.images.astype(np.int64) * self.object_counts.shape[1] + self.categories
        order = np.argsort(keys, kind="stable").astype(np.int32)  # within a key the best score still comes first
        ranks: NDArray[np.int32] = np.empty(len(keys), np.int32)
        ranks[order] = rank_in_runs(keys[order])
        return ranks

    def select(self, mask: NDArray[Any]) -> Matches:
        """The detections in the mask [D] or at these positions, with all objects."""
        return self._replace(**{name: getattr(self, name)[mask] for name in self._fields[:7]})


def read_bit(bits: NDArray[np.uint16], place: int) -> NDArray[np.bool_]:
    """Mask [D] of where a bit is set."""
    mask: NDArray[np.bool_] = (bits >> place & 1).astype(bool)
    return mask


def collect_matches(overlaps: Overlaps, size: str = "all", keep_ids: NDArray[np.integer[Any]] | None = None) -> Matches:
    """Match by COCO's rules; equal scores are ordered by image and class.

    size: one of SIZES; as in COCO, objects of another size are ignored, and the detections that are ignored at every
    IoU, which are most, are left out. keep_ids: ids of annotations; all other annotations are ignored likewise, though
    detections are matched to them.
    """
    low, high = AREAS[size]
    objects, images = overlaps.objects, len(overlaps.image_ids)
    ids, crowds = objects.ids, objects.crowds
    ignored_objects = crowds if size == "all" else crowds | (objects.areas < low) | (objects.areas > high)
    dropped = ignored_objects if keep_ids is None else ignored_objects | ~np.isin(ids, keep_ids)
    hit_bits = np.zeros(len(overlaps.cells), np.uint16)
    ignored_bits = np.where(read_bit(overlaps.size_bits, SIZES.index(size)), 0, ALL_BITS).astype(np.uint16)
    annotation_ids = np.zeros(len(overlaps.cells), ids.dtype)
    for block in _iterate_blocks(overlaps):
        ious, detections, partners = _match_pairs(overlaps, block, ignored_objects, crowds)
        bits = (1 << ious).astype(np.uint16)
        np.bitwise_or.at(hit_bits, detections, bits)
        np.bitwise_and.at(ignored_bits, detections, ~bits)
        np.bitwise_or.at(ignored_bits, detections, np.where(dropped[partners], bits, 0))
        annotation_ids[detections[ious == 0]] = ids[partners[ious == 0]]
    columns, rows = np.divmod(overlaps.cells, max(1, images))
    chosen = np.arange(len(rows)) if size == "all" and keep_ids is None else np.flatnonzero(ignored_bits != ALL_BITS)
    order = chosen[np.lexsort((columns[chosen], rows[chosen], -overlaps.scores[chosen]))].astype(np.int32)
    return Matches(
        scores=overlaps.scores[order],
        images=rows[order].astype(np.int32),
        categories=columns[order].astype(np.int32),
        hit_bits=hit_bits[order],
        ignored_bits=ignored_bits[order],
        prediction_indices=overlaps.prediction_indices[order],
        annotation_ids=annotation_ids[order],
        object_counts=count_cells(objects.cells[~dropped], images, len(overlaps.category_ids)),
        image_ids=overlaps.image_ids,
        category_ids=overlaps.category_ids,
    )


def _iterate_blocks(overlaps: Overlaps) -> Iterator[slice]:
    """Blocks of about BLOCK pairs, of whole cells."""
    starts = np.flatnonzero(np.diff(overlaps.cells[overlaps.detections], prepend=-1))  # of cells, among the pairs
    bounds = np.append(np.unique(starts[np.searchsorted(starts, starts // BLOCK * BLOCK)]), len(overlaps.detections))
    for start, end in pairwise(bounds.tolist()):
        yield slice(start, end)


def count_cells(cells: NDArray[np.integer[Any]], images: int, categories: int) -> NDArray[np.integer[Any]]:
    """How often each image and category occurs among the sorted cells [*]: [N, C] in as few bytes as it fits into."""
    starts = np.flatnonzero(np.diff(cells, prepend=-1))
    lengths = narrow(np.diff(starts, append=len(cells)))
    counts = np.zeros((images, categories), lengths.dtype)
    columns, rows = np.divmod(cells[starts], max(1, images))
    counts[rows, columns] = lengths
    return counts


def _match_pairs(
    overlaps: Overlaps, block: slice, ignored_objects: NDArray[np.bool_], is_crowd: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], NDArray[np.int32], NDArray[np.int32]]:
    """The IoU's row, the detection and the object [M] of each match among the pairs of whole cells.

    In each cell the best detection chooses first, among the objects that are free at that IoU: one that is not ignored,
    of these the one with the highest IoU, of equal ones the last. A crowd is always free. The n-th detections of all
    cells choose at once.
    """
    detections, partners, ious = (column[block] for column in (overlaps.detections, overlaps.partners, overlaps.ious))
    is_first = np.diff(detections, prepend=-1) > 0
    turns = rank_in_runs(overlaps.cells[detections[is_first]])[np.cumsum(is_first) - 1]  # [P]
    order = np.lexsort((ious, ~ignored_objects[partners], detections, turns))
    detections, partners, ious = detections[order], partners[order], ious[order]
    reached = ious >= np.minimum(IOUS, 1 - 1e-10)[:, None]  # [10, P]
    crowds = is_crowd[partners]
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
