"""Calibration: how well a score matches precision, and the temperature that improves it.

Guo et al. 2017, "On calibration of modern neural networks"; of detections: Kueppers et al. 2020, "Multivariate
confidence calibration for object detection". Only the score is used, not the position of the box.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.engine.detections import rescale_scores
from detector.evaluation.bootstrap import weigh
from detector.evaluation.intervals import none_if_nan, safe_divide
from detector.evaluation.matching import Matches

BINS = 10
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
SEARCH_STEPS = 80  # each shrinks the range by 38%


class Temperature(NamedTuple):
    """fitted: None when val has nothing to fit to; used: 1 where the fitted one does not help.

    error, error_after: calibration error on val. note: why the fitted one is not used; empty when it is.
    """

    fitted: float | None
    used: float | None
    error: float | None
    error_after: float | None
    note: str

    @property
    def is_applied(self) -> bool:
        """Whether scores change: there is a fitted temperature, and it helps."""
        return self.fitted is not None and self.used == self.fitted


def read_outcomes(matches: Matches) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Scores, and which are correct [*], of the detections that count at IoU 0.5."""
    counted = ~matches.ignored()
    return matches.scores[counted], matches.hits()[counted]


def compute_calibration_error(matches: Matches) -> float | None:
    """Mean gap between score and precision at IoU 0.5, over ten bins weighted by count; None without detections."""
    return none_if_nan(bootstrap_ece(matches, np.ones((1, len(matches.image_ids)), np.int32))[0])


def compute_reliability_bins(matches: Matches) -> list[dict[str, Any]]:
    """The bins: mean score, precision, count; None for both in an empty bin."""
    scores, correct = read_outcomes(matches)
    bins = _find_bins(scores)
    counts = np.bincount(bins, minlength=BINS)
    confidences = safe_divide(np.bincount(bins, scores, minlength=BINS), counts)
    accuracies = safe_divide(np.bincount(bins, correct, minlength=BINS), counts)
    return [
        {
            "low": index / BINS,
            "high": (index + 1) / BINS,
            "confidence": none_if_nan(confidences[index]),
            "accuracy": none_if_nan(accuracies[index]),
            "count": int(counts[index]),
        }
        for index in range(BINS)
    ]


def _find_bins(scores: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.minimum((scores * BINS).astype(np.int64), BINS - 1)


def bootstrap_ece(matches: Matches, weights: NDArray[np.integer[Any]]) -> NDArray[np.float64]:
    """The calibration error [B] per bootstrap sample (weights [B, N]); NaN for a sample without detections."""
    scores, correct = read_outcomes(matches)
    images = len(matches.image_ids)
    cells = matches.images[~matches.ignored()].astype(np.int64) * BINS + _find_bins(scores)

    def sum_per_bin(values: NDArray[np.float64] | None) -> NDArray[np.float64]:
        return weigh(weights, np.bincount(cells, values, minlength=images * BINS).reshape(images, BINS))

    # A bin's share of all detections times the gap of its means is the gap of its sums over the number of all.
    gaps = np.abs(sum_per_bin(scores) - sum_per_bin(correct.astype(np.float64)))
    return safe_divide(gaps.sum(axis=1), sum_per_bin(None).sum(axis=1))


def calibrate_score(score: float, temperature: float | None) -> float:
    """A score, such as a threshold, as people see it; temperature: None or 1 leaves it exactly as it is."""
    if temperature is None or temperature == 1:
        return score
    return float(rescale_scores(np.array([score]), temperature)[0])


def calibrate_scores(scores: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """Scores [*] as the pages show them, to 12 digits, to keep the order also of scores near 1."""
    calibrated: NDArray[np.float64] = (scores if temperature == 1 else rescale_scores(scores, temperature)).round(12)
    return calibrated


def read_temperature(details: Mapping[str, Any]) -> float:
    """The temperature that calibrates an evaluation's scores; details: metrics/evaluate/details.json."""
    return float((details.get("calibration") or {}).get("temperature") or 1.0)


def calibrate_matches(matches: Matches, temperature: float | None) -> Matches:
    """The same matches with calibrated scores; temperature: as for `calibrate_score`."""
    if temperature is None or temperature == 1:
        return matches
    return matches._replace(scores=rescale_scores(matches.scores, temperature))


def fit_temperature(matches: Matches) -> float | None:
    """The temperature that maximizes the likelihood of correct and wrong; None unless there are both.

    The likelihood has a single maximum, so a golden-section search over log(temperature) finds it.
    """
    scores, correct = read_outcomes(matches)
    if not correct.any() or correct.all():
        return None

    def loss(log_temperature: float) -> float:
        probabilities = np.clip(rescale_scores(scores, math.exp(log_temperature)), 1e-12, 1 - 1e-12)
        return -float(np.log(np.where(correct, probabilities, 1 - probabilities)).mean())

    golden = (math.sqrt(5) - 1) / 2
    low, high = math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE)
    for _ in range(SEARCH_STEPS):
        left, right = high - golden * (high - low), low + golden * (high - low)
        if loss(left) <= loss(right):
            high = right
        else:
            low = left
    return math.exp((low + high) / 2)


def choose_temperature(matches: Matches) -> Temperature:
    """Fit the temperature on val's matches, and use it only if it lowers val's calibration error.

    A single number can hardly overfit, so the same images decide whether it helps.
    """
    error = compute_calibration_error(matches)
    fitted = fit_temperature(matches)
    if fitted is None:
        return Temperature(None, None, error, None, "val has no correct detections, or no wrong ones")
    after = compute_calibration_error(calibrate_matches(matches, fitted))
    assert error is not None
    assert after is not None
    if after >= error:
        note = f"{fitted:.3f}, fitted on val, does not lower its calibration error ({error:.4f} to {after:.4f})"
        return Temperature(fitted, 1.0, error, after, note)
    return Temperature(fitted, fitted, error, after, "")
