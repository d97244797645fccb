"""Detections matched to objects by COCO's rules, as columns that can be counted, weighted and resampled."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator, Set
from typing import Any, NamedTuple

import numpy as np
from hotcoco import COCOeval
from numpy.typing import NDArray

NUM_IOUS = 10  # 0.50, 0.55, ... 0.95
SIZES = ("all", "small", "medium", "large")  # COCO's ranges of object area, bounded by 32 x 32 and 96 x 96 pixels
IMAGES_PER_CHUNK = 250


class Matches(NamedTuple):
    """All detections that COCO evaluates, best score first, for objects of any size.

    scores float [D]. images, categories int [D]: indices into image_ids [N] and category_ids [C].
    hits bool [10, D]: matched to an object at that IoU. ignored bool [10, D]: matched to a crowd, neither correct nor
    wrong. prediction_indices int [D]: indices into the list of predictions. annotation_ids int [D]: the annotation
    matched at IoU 0.5, or 0. object_counts int [N, C]: objects to detect.
    """

    scores: NDArray[np.float64]
    images: NDArray[np.int64]
    categories: NDArray[np.int64]
    hits: NDArray[np.bool_]
    ignored: NDArray[np.bool_]
    prediction_indices: NDArray[np.int64]
    annotation_ids: NDArray[np.int64]
    object_counts: NDArray[np.int64]
    image_ids: NDArray[np.int64]
    category_ids: NDArray[np.int64]

    def select_iou50(self) -> Matches:
        """The detections that count at IoU 0.5, without those on a crowd."""
        return self.select(~self.ignored[0])

    def select_images(self, mask: NDArray[np.bool_]) -> Matches:
        """Only the images [N] in the mask, with their objects."""
        new_index = np.cumsum(mask) - 1
        part = self.select(mask[self.images])
        return part._replace(
            images=new_index[part.images], object_counts=self.object_counts[mask], image_ids=self.image_ids[mask]
        )

    def rank_detections(self) -> NDArray[np.int64]:
        """The rank [D] of each detection among those of its class in its image, 0 for the best."""
        keys = self.images * self.object_counts.shape[1] + self.categories
        order = np.argsort(keys, kind="stable")  # within a key the best score still comes first
        sorted_keys = keys[order]
        ranks: NDArray[np.int64] = np.empty_like(keys)
        ranks[order] = np.arange(len(keys)) - np.searchsorted(sorted_keys, sorted_keys)
        return ranks

    def select(self, mask: NDArray[np.bool_]) -> Matches:
        """The detections [D] in the mask, with all objects."""
        return self._replace(
            scores=self.scores[mask],
            images=self.images[mask],
            categories=self.categories[mask],
            hits=self.hits[:, mask],
            ignored=self.ignored[:, mask],
            prediction_indices=self.prediction_indices[mask],
            annotation_ids=self.annotation_ids[mask],
        )


def collect_matches(evaluation: COCOeval, size: str = "all", keep_ids: Set[int] | None = None) -> Matches:
    """The matches of an evaluation of boxes; equal scores stay in COCO's order.

    size: one of SIZES; as in COCO, objects of another size are ignored. keep_ids: ids of annotations; all other
    annotations are ignored likewise.
    """
    area = list(evaluation.params.area_rng[SIZES.index(size)])
    image_ids = np.array(sorted(evaluation.params.img_ids), np.int64)
    category_ids = np.array(sorted(evaluation.params.cat_ids), np.int64)
    object_counts = np.zeros((len(image_ids), len(category_ids)), np.int64)
    row_by_id = {int(id_): row for row, id_ in enumerate(image_ids)}
    column_by_id = {int(id_): column for column, id_ in enumerate(category_ids)}
    scores: list[float] = []
    detection_ids: list[int] = []
    cells: list[tuple[int, int, int]] = []  # image, category, number of detections
    hit_parts, ignored_parts = [np.zeros((NUM_IOUS, 0), bool)], [np.zeros((NUM_IOUS, 0), bool)]
    annotation_parts = [np.zeros((NUM_IOUS, 0), np.int64)]
    for entry in _iterate_entries(evaluation, image_ids, area):
        row, column = row_by_id[entry["image_id"]], column_by_id[entry["category_id"]]
        object_counts[row, column] = _count_objects(entry, keep_ids)
        if entry["dtIds"]:
            cells.append((row, column, len(entry["dtIds"])))
            scores += entry["dtScores"]
            detection_ids += entry["dtIds"]
            annotation_parts.append(np.array(entry["dtMatches"], np.int64))
            hit_parts.append(np.array(entry["dtMatched"], bool))
            ignored_parts.append(np.array(entry["dtIgnore"], bool))
    rows, columns, counts = np.array(cells, np.int64).reshape(-1, 3).T
    order = np.argsort(-np.array(scores, float), kind="stable")
    hits = np.concatenate(hit_parts, axis=1)[:, order]
    ignored = np.concatenate(ignored_parts, axis=1)[:, order]
    annotation_ids = np.concatenate(annotation_parts, axis=1)[:, order]
    if keep_ids is not None:
        ignored |= hits & ~np.isin(annotation_ids, np.array(sorted(keep_ids), np.int64))
    return Matches(
        scores=np.array(scores, float)[order],
        images=np.repeat(rows, counts)[order],
        categories=np.repeat(columns, counts)[order],
        hits=hits,
        ignored=ignored,
        prediction_indices=np.array(detection_ids, np.int64)[order] - 1,
        annotation_ids=annotation_ids[0],
        object_counts=object_counts,
        image_ids=image_ids,
        category_ids=category_ids,
    )


def _count_objects(entry: dict[str, Any], keep_ids: Set[int] | None) -> int:
    """The number of objects to detect in an image and class."""
    pairs = zip(entry["gtIds"], entry["gtIgnore"], strict=True)
    return sum(1 for id_, ignore in pairs if not ignore and (keep_ids is None or id_ in keep_ids))


def _iterate_entries(evaluation: COCOeval, image_ids: NDArray[np.int64], area: list[float]) -> Iterator[dict[str, Any]]:
    """The matches per image and class, for objects of a range of areas in square pixels.

    hotcoco returns them as Python lists, a hundred times the size of the arrays: so a few images at a time, and only
    the range asked for.
    """
    for start in range(0, len(image_ids), IMAGES_PER_CHUNK):
        part = COCOeval(evaluation.coco_gt, evaluation.coco_dt, "bbox")
        part.params = evaluation.params
        part.params.area_rng, part.params.area_rng_lbl = [area], ["all"]
        part.params.img_ids = image_ids[start : start + IMAGES_PER_CHUNK].tolist()
        with contextlib.redirect_stdout(io.StringIO()):
            part.evaluate()
        yield from (entry for entry in part.eval_imgs if entry is not None)
