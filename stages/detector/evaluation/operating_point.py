"""The operating point: the score threshold from which detections count, chosen on val by a rule."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.matching import Matches


class ThresholdChoice(NamedTuple):
    """note: why the threshold does not meet the rule; empty when it does."""

    threshold: float
    note: str


class ThresholdCurve(NamedTuple):
    """Counts at each distinct threshold, highest first, all [T].

    thresholds: scores. hits: correct detections at or above each; detections: all of them. objects: number to detect.
    """

    thresholds: NDArray[np.float64]
    hits: NDArray[np.int64]
    detections: NDArray[np.int64]
    objects: int


def compute_threshold_curve(matches: Matches) -> ThresholdCurve:
    """At IoU 0.5, over all classes."""
    counted = matches.select_iou50()
    # Equal scores count together: only the last of each can be a threshold.
    is_last = np.append(counted.scores[1:] != counted.scores[:-1], True)[: len(counted.scores)]
    last = np.flatnonzero(is_last)
    hits = np.cumsum(counted.hits(), dtype=np.int64)[last]
    return ThresholdCurve(counted.scores[last], hits, last + 1, int(matches.object_counts.sum()))


def tabulate_thresholds(matches: Matches) -> list[dict[str, float]]:
    """Precision, recall and F1 over all classes at thresholds in steps of 0.01, as long as a detection is left.

    matches: with the scores that thresholds are compared with. Without an object to detect, no row.
    """
    curve = compute_threshold_curve(matches)
    rows: list[dict[str, float]] = []
    for threshold in np.arange(101) / 100:
        reached = int(np.searchsorted(-curve.thresholds, -threshold, side="right"))  # thresholds at or above this one
        if not reached or not curve.objects:
            break
        hits, detections = int(curve.hits[reached - 1]), int(curve.detections[reached - 1])
        values = {
            "precision": hits / detections,
            "recall": hits / curve.objects,
            "F1": 2 * hits / (detections + curve.objects),
        }
        rows.append({"threshold": float(threshold)} | {name: round(value, 6) for name, value in values.items()})
    return rows


def choose_threshold(
    matches: Matches, rule: str, absent_scores: NDArray[np.float64], cost_ratio: float
) -> ThresholdChoice:
    """The threshold by `rule`: `f1`, `precision>=0.9`, `recall>=0.9` (any number) or `cost`.

    precision: of the thresholds that reach it, the one with the highest recall; recall: the highest that reaches it.
    cost: the fewest missed objects, where detecting an absent one costs as much as missing `cost_ratio`.
    absent_scores: scores of the detections matched to absent objects.
    """
    curve = compute_threshold_curve(matches)
    if not curve.hits.any():
        return ThresholdChoice(0.5, "val has no correct detection to choose a threshold by; 0.5 is used")
    if rule == "f1":
        f1 = 2 * curve.hits / (curve.detections + curve.objects)
        return ThresholdChoice(float(curve.thresholds[f1.argmax()]), "")
    if rule == "cost":
        return ThresholdChoice(float(curve.thresholds[compute_costs(curve, absent_scores, cost_ratio).argmin()]), "")
    metric, target = rule.split(">=")
    values: NDArray[Any] = curve.hits / (curve.detections if metric == "precision" else curve.objects)
    reached = values >= float(target)
    if not reached.any():
        best = int(values.argmax())
        return ThresholdChoice(float(curve.thresholds[best]), f"val reaches at most {values[best]:.3f}, not {rule}")
    if metric == "recall":
        return ThresholdChoice(float(curve.thresholds[reached.argmax()]), "")
    return ThresholdChoice(float(curve.thresholds[np.where(reached, curve.hits, -1).argmax()]), "")


def compute_costs(curve: ThresholdCurve, absent_scores: NDArray[np.float64], cost_ratio: float) -> NDArray[np.float64]:
    """Missed objects plus `cost_ratio` times the detected absent ones, at each threshold [T]."""
    detected_absent = len(absent_scores) - np.searchsorted(np.sort(absent_scores), curve.thresholds)
    costs: NDArray[np.float64] = (cost_ratio * detected_absent + (curve.objects - curve.hits)).astype(np.float64)
    return costs


def compute_recall_at_precision(matches: Matches, precision: float) -> float | None:
    """The highest recall among the thresholds that reach `precision`, 0 when none does; None without objects."""
    curve = compute_threshold_curve(matches)
    if not curve.objects:
        return None
    reached = curve.hits / np.maximum(curve.detections, 1) >= precision
    return float(np.where(reached, curve.hits, 0).max(initial=0) / curve.objects)


def select_class(matches: Matches, category: int) -> Matches:
    """Only the detections and objects of the class at an index."""
    part = matches.select(matches.categories == category)
    others = np.arange(matches.object_counts.shape[1]) != category
    return part._replace(object_counts=np.where(others, 0, matches.object_counts))
