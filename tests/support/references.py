"""The same metrics computed in another way, as a reference."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.engine.detections import Prediction
from detector.evaluation.matching import Matches
from tests.support.packed import evaluate_rows


class OperatingPoint(NamedTuple):
    """Of the detections at or above a threshold; all values 0..1."""

    precision: float
    recall: float
    f1: float


def compute_operating_point(matches: Matches, threshold: float, category: int | None = None) -> OperatingPoint:
    """Of all classes, or of the one at an index; 0 for 0 / 0."""
    counted = matches.select_iou50()
    chosen = counted.scores >= threshold
    objects = int((matches.object_counts if category is None else matches.object_counts[:, category]).sum())
    if category is not None:
        chosen &= counted.categories == category
    hits, detections = int((chosen & counted.hits()).sum()), int(chosen.sum())
    return OperatingPoint(hits / max(1, detections), hits / max(1, objects), 2 * hits / max(1, detections + objects))


def compute_hotcoco_confusion(
    threshold: float | NDArray[np.float64], truth: dict[str, Any], predictions: list[Prediction], matches: Matches
) -> NDArray[np.uint64]:
    """hotcoco's confusion matrix [C + 1, C + 1] at IoU 0.5: true classes in rows, predicted classes in columns.

    threshold: one for all classes, or [C]. matches: of these predictions. As for AP, detections on a crowd are
    ignored.
    """
    on_crowd = set(matches.prediction_indices[matches.ignored()].tolist())
    thresholds = np.broadcast_to(np.asarray(threshold, float), matches.category_ids.shape)
    threshold_by_category = dict(zip(matches.category_ids.tolist(), thresholds.tolist(), strict=True))
    counted = [
        prediction
        for index, prediction in enumerate(predictions)
        if index not in on_crowd and prediction["score"] >= threshold_by_category[prediction["category_id"]]
    ]
    evaluation = evaluate_rows({**truth, "annotations": [a for a in truth["annotations"] if not a["iscrowd"]]}, counted)
    matrix: NDArray[np.uint64] = evaluation.confusion_matrix(iou_thr=0.5)["matrix"]
    return matrix
