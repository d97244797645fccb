"""How well the boxes of correct detections fit: IoU, and area relative to the object's."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.engine.detections import Predictions
from detector.engine.ground_truth import GroundTruth
from detector.evaluation.bootstrap import weigh
from detector.evaluation.intervals import none_if_nan, safe_divide
from detector.evaluation.matching import Matches
from detector.evaluation.overlaps import pair_ious


class BoxPairs(NamedTuple):
    """Detections at or above their threshold with the objects that they match at IoU 0.5.

    categories, images int [P]: indices of class and image; ious float [P]; area_ratios float [P]: area of the
    detection over that of the object.
    """

    categories: NDArray[np.integer[Any]]
    images: NDArray[np.integer[Any]]
    ious: NDArray[np.float64]
    area_ratios: NDArray[np.float64]


def pair_boxes(
    truth: GroundTruth, predictions: Predictions, matches: Matches, thresholds: NDArray[np.float64]
) -> BoxPairs:
    """thresholds [C]: of each class."""
    is_correct = matches.hits() & ~matches.ignored()
    correct = matches.select(is_correct & (matches.scores >= thresholds[matches.categories]))
    predicted = predictions.select(correct.prediction_indices).boxes_xywh
    true = truth.objects.boxes_xywh[truth.objects.find(correct.annotation_ids)]
    ious = pair_ious(predicted, true, np.zeros(len(true), bool))
    return BoxPairs(correct.categories, correct.images, ious, predicted[:, 2:].prod(axis=1) / true[:, 2:].prod(axis=1))


def compute_mean_iou(pairs: BoxPairs) -> float | None:
    """Over all pairs; None without any."""
    return float(pairs.ious.mean()) if len(pairs.ious) else None


def bootstrap_mean_iou(pairs: BoxPairs, weights: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """The mean IoU [B] per bootstrap sample (weights [B, N]); NaN for a sample without pairs."""
    images = weights.shape[1]
    sums = np.bincount(pairs.images, pairs.ious, minlength=images)
    return safe_divide(weigh(weights, sums), weigh(weights, np.bincount(pairs.images, minlength=images)))


def tabulate_localization(pairs: BoxPairs, classes: list[str]) -> list[dict[str, Any]]:
    """Per class: matched pairs, mean IoU, mean |area / true area - 1|, and the fraction of boxes that are too large."""
    rows = []
    for index, name in enumerate(classes):
        chosen = pairs.categories == index
        ratios, count = pairs.area_ratios[chosen], int(chosen.sum())
        rows.append(
            {
                "class": name,
                "matched": count,
                "mean_IoU": none_if_nan(safe_divide(pairs.ious[chosen].sum(), count)),
                "mean_area_error": none_if_nan(safe_divide(np.abs(ratios - 1).sum(), count)),
                "too_large": none_if_nan(safe_divide((ratios > 1).sum(), count)),
            }
        )
    return rows
