"""Paired comparison of two detectors: whether one is significantly better than the other.

Both are evaluated on the same bootstrap samples of the same images. An image that is hard is hard for both, so the
difference varies much less than either metric (paired bootstrap: Efron & Tibshirani 1993, "An introduction to the
bootstrap"; Koehn 2004 for comparing two systems).
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.bootstrap import compute_average_precisions, percentile_interval
from detector.evaluation.intervals import IOU_50, IOU_75
from detector.evaluation.matching import NUM_IOUS, Matches
from detector.evaluation.metric_names import COMPARED_METRICS

Verdict = Literal["better", "worse", "not significant", "undefined"]


class DetectorMatches(NamedTuple):
    """One detector on the common images; thresholds [C]: the score from which a detection of a class counts."""

    matches: Matches
    thresholds: NDArray[np.float64]


class MetricDifference(NamedTuple):
    """b - a of one metric, None where it is undefined.

    low, high: 95% interval. p: two-sided p-value of no difference. p_holm: corrected for testing all classes; None
    for an overall metric.
    """

    name: str
    objects: int
    a: float | None
    b: float | None
    change: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None
    p_holm: float | None = None

    @property
    def verdict(self) -> Verdict:
        """By the interval; for a class, by its corrected p-value."""
        if self.change is None or self.p is None or self.low is None or self.high is None:
            return "undefined"
        significant = self.low > 0 or self.high < 0 if self.p_holm is None else self.p_holm < 0.05
        if not significant:
            return "not significant"
        return "better" if self.change > 0 else "worse"


class ImageChange(NamedTuple):
    """The errors (missed objects and false positives, at IoU 0.5) of an image: their change, and both counts (a, b)."""

    image_id: int
    errors: int
    missed: tuple[int, int]
    false_positives: tuple[int, int]


def compare_detectors(
    a: DetectorMatches, b: DetectorMatches, class_names: list[str], weights: NDArray[np.integer[Any]]
) -> tuple[list[MetricDifference], list[MetricDifference]]:
    """The differences of COMPARED_METRICS, and of AP per class; weights [B, N]: bootstrap samples of the images.

    a and b must have been matched against the same truth. F1 is over all classes at IoU 0.5.
    """
    with_original = np.concatenate([np.ones((1, weights.shape[1]), np.int32), weights])  # the first: all images once
    metrics_a, classes_a = _compute_replicates(a, with_original)
    metrics_b, classes_b = _compute_replicates(b, with_original)
    object_counts = a.matches.object_counts.sum(axis=0)
    metrics = [
        _compute_difference(name, int(object_counts.sum()), metrics_a[:, index], metrics_b[:, index])
        for index, name in enumerate(COMPARED_METRICS)
    ]
    classes = [
        _compute_difference(name, int(object_counts[index]), classes_a[:, index], classes_b[:, index])
        for index, name in enumerate(class_names)
    ]
    corrected = iter(apply_holm([row.p for row in classes if row.p is not None]))
    return metrics, [row if row.p is None else row._replace(p_holm=next(corrected)) for row in classes]


def _compute_replicates(
    side: DetectorMatches, weights: NDArray[np.integer[Any]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """COMPARED_METRICS [B, 4] and AP per class [B, C] for each row of weights."""
    precision = compute_average_precisions(side.matches, weights)  # [B, 10, C]
    hits, detections = _count_detections(side)
    objects = side.matches.object_counts.sum(axis=1)
    denominator = weights @ (detections[0] + objects)
    f1 = np.where(denominator > 0, 2 * (weights @ hits[0]) / np.maximum(denominator, 1), np.nan)
    ap = _row_nanmean(precision.reshape(len(weights), -1))
    ap50, ap75 = _row_nanmean(precision[:, IOU_50]), _row_nanmean(precision[:, IOU_75])
    return np.stack([ap, ap50, ap75, f1], axis=1), precision.mean(axis=1)


def _row_nanmean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of each row [B, K] without NaN; NaN, without a warning, for a row of NaN only."""
    counts = (~np.isnan(values)).sum(axis=1)
    mean: NDArray[np.float64] = np.where(counts > 0, np.nansum(values, axis=1) / np.maximum(counts, 1), np.nan)
    return mean


def _count_detections(side: DetectorMatches) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Correct detections, and all that count, at or above the thresholds: both [10, N], by IoU and image."""
    matches = side.matches
    above = matches.scores >= side.thresholds[matches.categories]
    hits, detections = np.zeros((2, NUM_IOUS, len(matches.image_ids)), np.int64)
    for iou in range(NUM_IOUS):
        counted = above & ~matches.ignored(iou)
        detections[iou] = np.bincount(matches.images[counted], minlength=detections.shape[1])
        hits[iou] = np.bincount(matches.images[counted & matches.hits(iou)], minlength=detections.shape[1])
    return hits, detections


def _compute_difference(name: str, objects: int, a: NDArray[np.float64], b: NDArray[np.float64]) -> MetricDifference:
    """From the values of both detectors [1 + B], the first on the original images."""
    if np.isnan(a[0]) or np.isnan(b[0]):
        return MetricDifference(name, objects, None, None)
    replicates = (b - a)[1:]
    bounds = percentile_interval(replicates)
    change = float(b[0] - a[0])
    if bounds is None:
        return MetricDifference(name, objects, float(a[0]), float(b[0]), change)
    return MetricDifference(name, objects, float(a[0]), float(b[0]), change, *bounds, compute_p_value(replicates))


def compute_p_value(replicates: NDArray[np.float64]) -> float:
    """Two-sided p-value of no difference: twice the fraction of the replicates [B] on the rarer side of zero.

    Below 0.05 it agrees with a 95% percentile interval that excludes zero. NaN is skipped. It is at least 2 / (B + 1),
    the resolution of a bootstrap (Davison & Hinkley 1997, section 4.2).
    """
    valid = replicates[~np.isnan(replicates)]
    rarer = min(int((valid <= 0).sum()), int((valid >= 0).sum()))
    return min(1.0, 2 * (rarer + 1) / (len(valid) + 1))


def apply_holm(p_values: list[float]) -> list[float]:
    """p-values corrected for testing several hypotheses: the family-wise error rate is controlled (Holm 1979)."""
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, p_values[index] * (len(p_values) - rank)))
        corrected[index] = highest
    return corrected


def compare_images(a: DetectorMatches, b: DetectorMatches) -> list[ImageChange]:
    """The change of errors of each image, the largest decrease from a to b first.

    Images with equal changes at IoU 0.5 are ordered by the sum over all ten IoUs, then by id.
    """
    objects = a.matches.object_counts.sum(axis=1)
    (hits_a, detections_a), (hits_b, detections_b) = _count_detections(a), _count_detections(b)
    errors = (objects + detections_b - 2 * hits_b) - (objects + detections_a - 2 * hits_a)  # [10, N]
    order = np.lexsort((a.matches.image_ids, errors.sum(axis=0), errors[0]))
    return [
        ImageChange(
            image_id=int(a.matches.image_ids[row]),
            errors=int(errors[0, row]),
            missed=(int(objects[row] - hits_a[0, row]), int(objects[row] - hits_b[0, row])),
            false_positives=(int(detections_a[0, row] - hits_a[0, row]), int(detections_b[0, row] - hits_b[0, row])),
        )
        for row in order
    ]
