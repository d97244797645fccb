"""The same numbers computed another way, to compare with."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.engine.coco_metrics import evaluate_boxes
from detector.engine.detections import Prediction
from detector.evaluation.matching import Matches


class OperatingPoint(NamedTuple):
    """Of the detections from a threshold upwards; all values 0..1."""

    precision: float
    recall: float
    f1: float


def at_threshold(matches: Matches, threshold: float, category: int | None = None) -> OperatingPoint:
    """Of all classes, or of the one in a place; 0 where there is nothing to divide by."""
    counted = matches.at_half()
    chosen = counted.scores >= threshold
    truths = int((matches.truths if category is None else matches.truths[:, category]).sum())
    if category is not None:
        chosen &= counted.categories == category
    hits, found = int((chosen & counted.hits[0]).sum()), int(chosen.sum())
    return OperatingPoint(hits / max(1, found), hits / max(1, truths), 2 * hits / max(1, found + truths))


def confusions_at(
    threshold: float | NDArray[np.float64], truth: dict[str, Any], predictions: list[Prediction], matches: Matches
) -> NDArray[np.uint64]:
    """hotcoco's counts [C + 1, C + 1] at IoU 0.5: what was there in rows, what was found in columns.

    threshold: one for all classes, or [C]. matches: of these predictions. As for AP, those that only lie on
    a crowd are neither right nor wrong.
    """
    on_crowd = set(matches.detections[matches.ignored[0]].tolist())
    limits = np.broadcast_to(np.asarray(threshold, float), matches.category_ids.shape)
    limit_of = dict(zip(matches.category_ids.tolist(), limits.tolist(), strict=True))
    counted = [
        prediction for place, prediction in enumerate(predictions)
        if place not in on_crowd and prediction["score"] >= limit_of[prediction["category_id"]]
    ]  # fmt: skip
    judged = evaluate_boxes({**truth, "annotations": [a for a in truth["annotations"] if not a["iscrowd"]]}, counted)
    matrix: NDArray[np.uint64] = judged.confusion_matrix(iou_thr=0.5)["matrix"]
    return matrix
