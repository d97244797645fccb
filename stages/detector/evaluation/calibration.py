"""Whether a score is the share of detections that are right, and the temperature that makes it so.

Guo et al. 2017, "On calibration of modern neural networks"; of detections: Kueppers et al. 2020, "Multivariate
confidence calibration for object detection". Only the score is looked at, not the place of the box.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from hotcoco import COCOeval
from numpy.typing import NDArray

from detector.engine.coco_metrics import evaluate_boxes
from detector.engine.detections import Prediction, rescaled
from detector.evaluation.intervals import share
from detector.evaluation.matching import Matches

BINS = 10
COLDEST, HOTTEST = 0.05, 20.0
STEPS = 80  # of the search: each takes 38% off the range


class Temperature(NamedTuple):
    """fitted: None when val has nothing to fit by; used: 1 where the fitted one does not help.

    error, error_after: calibration error of val. note: why it is not used, empty when it is.
    """

    fitted: float | None
    used: float | None
    error: float | None
    error_after: float | None
    note: str


def calibration_error(evaluation: COCOeval) -> float | None:
    """Mean gap between score and precision at IoU 0.5, over ten bins weighted by count; None without detections."""
    found = evaluation.calibration(n_bins=BINS, iou_threshold=0.5)
    return float(found["ece"]) if found["num_detections"] else None


def reliability(evaluation: COCOeval) -> list[dict[str, Any]]:
    """The bins: mean score, share that is right, count; None for both in an empty bin."""
    return [
        {
            "low": low["bin_lower"],
            "high": low["bin_upper"],
            "confidence": low["avg_confidence"] if low["count"] else None,
            "accuracy": low["avg_accuracy"] if low["count"] else None,
            "count": low["count"],
        }
        for low in evaluation.calibration(n_bins=BINS, iou_threshold=0.5)["bins"]
    ]


def errors_of_draws(matches: Matches, times: NDArray[np.int32]) -> NDArray[np.float64]:
    """`calibration_error` for each draw of the images [B]; NaN for a draw without detections."""
    counted = matches.at_half()
    bins = np.minimum((counted.scores * BINS).astype(np.int64), BINS - 1)
    images = len(matches.image_ids)
    places = counted.images * BINS + bins

    def of_draws(weights: NDArray[np.float64] | None) -> NDArray[np.float64]:
        sums = np.bincount(places, weights, minlength=images * BINS).reshape(images, BINS)
        total: NDArray[np.float64] = times.astype(np.float64) @ sums
        return total

    # A bin's share of all, times the gap between its means, is the gap between its sums, as a share of all.
    gaps = np.abs(of_draws(counted.scores) - of_draws(counted.hits[0].astype(np.float64)))
    return share(gaps.sum(axis=1), of_draws(None).sum(axis=1))


def with_temperature(predictions: list[Prediction], temperature: float) -> list[Prediction]:
    """The same detections with rescaled scores."""
    scores = rescaled(np.array([prediction["score"] for prediction in predictions], float), temperature)
    return [{**prediction, "score": score} for prediction, score in zip(predictions, scores.tolist(), strict=True)]


def fit_temperature(matches: Matches) -> float | None:
    """The temperature under which what was right and wrong is most likely; None without both.

    The likelihood has one summit, so a golden-section search over log(temperature) finds it.
    """
    counted = matches.at_half()
    right = counted.hits[0]
    if not right.any() or right.all():
        return None

    def loss(log_temperature: float) -> float:
        chances = np.clip(rescaled(counted.scores, math.exp(log_temperature)), 1e-12, 1 - 1e-12)
        return -float(np.log(np.where(right, chances, 1 - chances)).mean())

    golden = (math.sqrt(5) - 1) / 2
    low, high = math.log(COLDEST), math.log(HOTTEST)
    for _ in range(STEPS):
        left, right_end = high - golden * (high - low), low + golden * (high - low)
        if loss(left) <= loss(right_end):
            high = right_end
        else:
            low = left
    return math.exp((low + high) / 2)


def temperature_on(
    truth: dict[str, Any], predictions: list[Prediction], evaluation: COCOeval, matches: Matches
) -> Temperature:
    """Fitted on val, and used only if it makes val's calibration error smaller.

    evaluation, matches: of the predictions.

    One number cannot be fitted by heart, so the same images say whether it helps.
    """
    error = calibration_error(evaluation)
    fitted = fit_temperature(matches)
    if fitted is None:
        return Temperature(None, None, error, None, "val has no detections that are right, or none that are wrong")
    after = calibration_error(evaluate_boxes(truth, with_temperature(predictions, fitted)))
    assert error is not None
    assert after is not None
    if after >= error:
        note = f"{fitted:.3f}, fitted on val, does not lower its calibration error ({error:.4f} to {after:.4f})"
        return Temperature(fitted, 1.0, error, after, note)
    return Temperature(fitted, fitted, error, after, "")
