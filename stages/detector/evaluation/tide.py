"""The AP50 that each type of error costs (Bolya et al. 2020, "TIDE: A general toolbox for identifying object errors").

As in its reference implementation, a wrong detection has the first type that applies: of location, of class, duplicate,
background, and both of location and class. An object is missed when no detection of the first two types lies on it.
Without the errors of a type, the best detection of those two that lies on an object without one is correct and has its
class, all others of the type are gone, and missed objects do not count. The numbers are those of hotcoco.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.engine.detections import Predictions
from detector.evaluation.bootstrap import compute_average_precisions
from detector.evaluation.intervals import nanmean, weigh_once
from detector.evaluation.matching import Matches, count_cells
from detector.evaluation.overlaps import BLOCK, Overlaps, pair_equal, pair_ious

MATCH_IOU, BACKGROUND_IOU = 0.5, 0.1
KINDS = ("class", "location", "both", "duplicate", "background", "missed")


class Nearest(NamedTuple):
    """Of each detection [W] the object that it overlaps most: ious float64, 0 without one; objects int32, -1."""

    ious: NDArray[np.float64]
    objects: NDArray[np.int32]

    def update(self, detections: NDArray[np.int64], objects: NDArray[np.int32], ious: NDArray[np.float64]) -> None:
        """All pairs [P] of some detections; of equal IoUs the first counts."""
        order = np.lexsort((-np.arange(len(ious)), ious, detections))
        last = order[np.append(np.diff(detections[order]) > 0, True)[: len(order)]]
        self.ious[detections[last]], self.objects[detections[last]] = ious[last], objects[last]


def compute_tide(overlaps: Overlaps, predictions: Predictions, matches: Matches) -> dict[str, Any]:
    """AP50 to gain by kind of error, 0..1, None without detections or objects; `counts`: the number of errors by kind.

    overlaps, matches: of the predictions, for objects of any size.
    """
    objects, crowds = overlaps.objects, overlaps.objects.crowds
    counted = matches.select_iou50()
    wrong = np.flatnonzero(~counted.hits()).astype(np.int32)
    matched = np.isin(objects.ids, matches.annotation_ids[matches.hits()])
    same, other, is_duplicate = _find_nearest(overlaps, predictions, counted.select(wrong), matched)
    conditions = {
        "location": (same.ious >= BACKGROUND_IOU) & (same.ious <= MATCH_IOU),
        "class": other.ious >= MATCH_IOU,
        "duplicate": is_duplicate,
        "background": other.ious <= BACKGROUND_IOU,
    }
    kinds = np.select(list(conditions.values()), np.arange(len(conditions)), len(conditions))  # [wrong]
    covered = np.concatenate([same.objects[kinds == 0], other.objects[kinds == 1]])
    missed = ~matched & ~crowds
    missed[covered] = False
    masks = {name: wrong[kinds == index] for index, name in enumerate((*conditions, "both"))}
    counts = {name: int(missed.sum()) if name == "missed" else len(masks[name]) for name in KINDS}
    if not matches.object_counts.any() or not len(matches.scores):
        return dict.fromkeys(KINDS) | {"counts": counts}
    base = _average_precisions(counted)
    targets = np.full(len(counted.scores), -1, np.int32)
    targets[wrong] = np.select([kinds == 0, kinds == 1], [same.objects, other.objects], -1)
    best = _choose_best(counted, targets, ~matched & ~crowds)
    del same, other
    classes = np.where(best, objects.cells[targets] // max(1, len(overlaps.image_ids)), counted.categories)
    gains: dict[str, float] = {}
    for name, places in masks.items():
        fixed = np.zeros(len(best), bool)
        fixed[places] = True
        corrected = fixed & best
        kept = np.lexsort((corrected & (classes != counted.categories), -counted.scores))
        changed = counted._replace(
            categories=np.where(fixed, classes, counted.categories).astype(np.int32),
            hit_bits=counted.hit_bits | corrected,
        ).select(kept[~(fixed & ~best)[kept]])
        gains[name] = float(nanmean(_average_precisions(changed) - base, (0,)))
    left = matches.object_counts - count_cells(objects.cells[missed], *matches.object_counts.shape)
    found = np.nan_to_num(_average_precisions(counted._replace(object_counts=left)))
    gains["missed"] = float(nanmean(found - base, (0,)))
    return {name: gains[name] for name in KINDS} | {"counts": counts}


def _choose_best(matches: Matches, targets: NDArray[np.int32], is_free: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Mask [D] of those that would be correct: of the detections with a target, the best of each free object [A]."""
    order = np.lexsort((matches.prediction_indices, -matches.scores))
    order = order[targets[order] >= 0]
    best = np.zeros(len(targets), bool)
    best[order[np.unique(targets[order], return_index=True)[1]]] = True
    return best & is_free[targets]


def _average_precisions(matches: Matches) -> NDArray[np.float64]:
    """AP50 [C]."""
    precisions: NDArray[np.float64] = compute_average_precisions(matches, weigh_once(matches.image_ids), ious=1)[0, 0]
    return precisions


def _find_nearest(
    overlaps: Overlaps, predictions: Predictions, wrong: Matches, matched: NDArray[np.bool_]
) -> tuple[Nearest, Nearest, NDArray[np.bool_]]:
    """Of each wrong detection [W] the nearest object of its class, of another class, and whether it is a duplicate.

    matched bool [A]: the objects that have a detection. A duplicate overlaps one of these.
    """
    objects, images = overlaps.objects, max(1, len(overlaps.image_ids))
    order = np.argsort(objects.cells % images, kind="stable").astype(np.int32)
    object_images, object_categories = objects.cells[order] % images, objects.cells // images
    is_crowd, count = objects.crowds, len(wrong.scores)
    same, other = (Nearest(np.zeros(count), np.full(count, -1, np.int32)) for _ in range(2))
    is_duplicate = np.zeros(count, bool)
    for start in range(0, count, BLOCK):
        block = slice(start, start + BLOCK)
        rows, places = pair_equal(wrong.images[block], object_images)
        detections, partners = rows + start, order[places]
        is_same = wrong.categories[detections] == object_categories[partners]
        crowds = is_crowd[partners]
        boxes_xywh = predictions.select(wrong.prediction_indices[block]).boxes_xywh
        ious = pair_ious(boxes_xywh[rows], objects.boxes_xywh(partners), crowds & is_same)
        is_duplicate[detections[is_same & matched[partners] & (ious >= MATCH_IOU)]] = True
        for nearest, mask in ((same, is_same), (other, ~is_same & ~crowds)):
            chosen = mask & (ious > 0)
            nearest.update(detections[chosen], partners[chosen], ious[chosen])
    return same, other, is_duplicate
