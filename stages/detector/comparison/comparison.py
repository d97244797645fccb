"""Is one detector better than another, or was it luck? Both are judged on the same draws of the same images.

What is hard in a draw is hard for both, so the difference wavers much less than either number (paired bootstrap:
Efron & Tibshirani 1993, "An introduction to the bootstrap"; Koehn 2004 for comparing two systems).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.bootstrap import average_precisions, interval
from detector.evaluation.matching import IOUS, Matches

METRICS = ("AP", "AP50", "AP75", "F1")


class Side(NamedTuple):
    """One detector on the shared images; thresholds [C]: of the score, from which a detection of a class counts."""

    matches: Matches
    thresholds: NDArray[np.float64]


class Difference(NamedTuple):
    """b - a of one number, all None where it cannot be had; p: two-sided, of there being no difference.

    low, high: 95% interval. p_holm: corrected for having looked at all classes; None for a metric.
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
    def verdict(self) -> str:
        """better | worse | open | none (cannot be judged), by the interval; for a class by its corrected p."""
        if self.change is None or self.p is None or self.low is None or self.high is None:
            return "none"
        sure = self.low > 0 or self.high < 0 if self.p_holm is None else self.p_holm < 0.05
        return "open" if not sure else "better" if self.change > 0 else "worse"


class ImageChange(NamedTuple):
    """What b misses and invents in an image where a did; errors: b's minus a's misses and inventions at IoU 0.5."""

    image_id: int
    errors: int
    missed: tuple[int, int]
    false: tuple[int, int]


def differences(
    a: Side, b: Side, class_names: list[str], times: NDArray[np.int32]
) -> tuple[list[Difference], list[Difference]]:
    """Of METRICS, and of the AP of each class, over the draws of images `times` [B, N].

    a and b must have been matched against the same truth. F1 is that of all classes together at IoU 0.5.
    """
    every = np.concatenate([np.ones((1, times.shape[1]), np.int32), times])  # the first is what was measured
    (metrics_a, classes_a), (metrics_b, classes_b) = _numbers(a, every), _numbers(b, every)
    truths = a.matches.truths.sum(axis=0)
    metrics = [
        _difference(name, int(truths.sum()), metrics_a[:, place], metrics_b[:, place])
        for place, name in enumerate(METRICS)
    ]
    classes = [
        _difference(name, int(truths[place]), classes_a[:, place], classes_b[:, place])
        for place, name in enumerate(class_names)
    ]
    corrected = iter(holm([row.p for row in classes if row.p is not None]))
    return metrics, [row if row.p is None else row._replace(p_holm=next(corrected)) for row in classes]


def _numbers(side: Side, times: NDArray[np.int32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """METRICS [B, 4] and AP by class [B, C] in each draw."""
    precision = average_precisions(side.matches, times)  # [B, 10, C]
    hits, found = _counts(side)
    truths = side.matches.truths.sum(axis=1)
    judged = times @ (found[0] + truths)
    f1 = np.where(judged > 0, 2 * (times @ hits[0]) / np.maximum(judged, 1), np.nan)
    metrics = [_mean(precision.reshape(len(times), -1)), _mean(precision[:, 0]), _mean(precision[:, 5]), f1]
    return np.stack(metrics, axis=1), precision.mean(axis=1)


def _mean(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean of the numbers of each row [B, K]; NaN for a row without any."""
    counts = (~np.isnan(values)).sum(axis=1)
    mean: NDArray[np.float64] = np.where(counts > 0, np.nansum(values, axis=1) / np.maximum(counts, 1), np.nan)
    return mean


def _counts(side: Side) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Right detections, and all that count, from the thresholds upwards, [10, N] by IoU and image."""
    matches = side.matches
    chosen = matches.scores >= side.thresholds[matches.categories]
    hits, found = np.zeros((2, IOUS, len(matches.image_ids)), np.int64)
    for iou in range(IOUS):
        counted = chosen & ~matches.ignored[iou]
        found[iou] = np.bincount(matches.images[counted], minlength=found.shape[1])
        hits[iou] = np.bincount(matches.images[counted & matches.hits[iou]], minlength=found.shape[1])
    return hits, found


def _difference(name: str, objects: int, a: NDArray[np.float64], b: NDArray[np.float64]) -> Difference:
    """From the numbers of both sides [1 + B], the measured one first."""
    if np.isnan(a[0]) or np.isnan(b[0]):
        return Difference(name, objects, None, None)
    samples = (b - a)[1:]
    bounds = interval(samples)
    change = float(b[0] - a[0])
    if bounds is None:
        return Difference(name, objects, float(a[0]), float(b[0]), change)
    return Difference(name, objects, float(a[0]), float(b[0]), change, *bounds, p_value(samples))


def p_value(samples: NDArray[np.float64]) -> float:
    """Two-sided p of no difference: twice the share of the draws [B] that end on the rarer side of zero.

    Below 0.05 it says what a 95% percentile interval without zero says. NaN draws are passed over; at least
    2 / (B + 1), for a bootstrap cannot tell less (Davison & Hinkley 1997, section 4.2).
    """
    valid = samples[~np.isnan(samples)]
    rarer = min(int((valid <= 0).sum()), int((valid >= 0).sum()))
    return min(1.0, 2 * (rarer + 1) / (len(valid) + 1))


def holm(p_values: list[float]) -> list[float]:
    """Each p corrected so that with 0.05 one false alarm or more among all is as rare as 5% (Holm 1979)."""
    corrected = [0.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, p_values[place] * (len(p_values) - rank)))
        corrected[place] = highest
    return corrected


def image_changes(a: Side, b: Side) -> list[ImageChange]:
    """All images, the one where b has most errors less than a first.

    Equal ones are ordered by the mean over all ten IoUs, then by id.
    """
    truths = a.matches.truths.sum(axis=1)
    (hits_a, found_a), (hits_b, found_b) = _counts(a), _counts(b)
    errors = (truths + found_b - 2 * hits_b) - (truths + found_a - 2 * hits_a)  # [10, N]
    order = np.lexsort((a.matches.image_ids, errors.sum(axis=0), errors[0]))
    return [
        ImageChange(
            int(a.matches.image_ids[row]),
            int(errors[0, row]),
            (int(truths[row] - hits_a[0, row]), int(truths[row] - hits_b[0, row])),
            (int(found_a[0, row] - hits_a[0, row]), int(found_b[0, row] - hits_b[0, row])),
        )
        for row in order
    ]
