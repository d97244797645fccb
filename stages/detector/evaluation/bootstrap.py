"""What chance may have added to a number: the same number for other draws of the images (bootstrap).

Detections are matched once; a draw only says how often each image counts. Images that belong together (frames
of a sequence) are drawn together. Efron 1979, "Bootstrap methods: another look at the jackknife".
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, stdtrit

from detector.evaluation.matching import IOUS, Matches

AT_ONCE = 4_000_000  # elements of a temporary array
RECALLS = np.linspace(0, 1, 101)


def draws(groups: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int32]:
    """How often each image counts in each of `count` draws [count, N]; groups [N]: a number for each image."""
    _, members = np.unique(groups, return_inverse=True)
    many = int(members.max(initial=-1)) + 1
    chosen = np.random.default_rng(seed).integers(0, max(1, many), (count, many))
    times = np.zeros((count, many), np.int32)
    np.add.at(times, (np.arange(count)[:, None], chosen), 1)
    return times[:, members]


def average_precisions(matches: Matches, times: NDArray[np.int32]) -> NDArray[np.float64]:
    """COCO's average precision [B, 10, C] for each draw of images (times [B, N]), IoU and class.

    NaN for a class without objects in a draw. With every image once it equals pycocotools' numbers.
    """
    truths = times.astype(np.int64) @ matches.truths  # [B, C]
    precision = np.full((len(times), IOUS, truths.shape[1]), np.nan)
    for category in range(truths.shape[1]):
        of_class = matches.chosen(matches.categories == category)
        step = max(1, AT_ONCE // max(1, len(of_class.scores)))
        for start in range(0, len(times), step):
            chunk = slice(start, start + step)
            precision[chunk, :, category] = _of_class(of_class, times[chunk], truths[chunk, category])
    return precision


def _of_class(matches: Matches, times: NDArray[np.int32], truths: NDArray[np.int64]) -> NDArray[np.float64]:
    """[B, 10] of one class."""
    result = np.where(truths[:, None] > 0, 0.0, np.nan).repeat(IOUS, axis=1)
    weights = times[:, matches.images]  # [B, D]
    found = np.cumsum(weights, axis=1)
    needed = _hits_needed(truths)
    for iou in range(IOUS):
        hits = np.flatnonzero(matches.hits[iou] & ~matches.ignored[iou])
        if not len(hits):
            continue
        right = np.cumsum(weights[:, hits], axis=1)  # [B, H]
        passed_over = np.flatnonzero(matches.ignored[iou])
        counted = found[:, hits]
        if len(passed_over):
            skipped = np.cumsum(weights[:, passed_over], axis=1)
            before = np.searchsorted(passed_over, hits)  # how many are passed over before each hit
            counted = counted - np.where(before > 0, skipped[:, np.maximum(before - 1, 0)], 0)
        # Precision is highest at hits, so nothing else needs to be looked at.
        precision = right / np.maximum(counted, 1)
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        result[:, iou] = np.where(truths > 0, _mean_over_recalls(right, envelope, needed), np.nan)
    return result


def _hits_needed(truths: NDArray[np.int64]) -> NDArray[np.int64]:
    """The fewest hits among `truths` objects [B] whose share reaches each of the 101 recalls [B, 101]."""
    different, rows = np.unique(truths, return_inverse=True)
    # By the division that pycocotools does, so that rounding falls the same way.
    needed = [np.searchsorted(np.arange(many + 1) / max(1, many), RECALLS) for many in different]
    return np.array(needed, np.int64).reshape(-1, len(RECALLS))[rows]


def _mean_over_recalls(
    right: NDArray[np.int32], envelope: NDArray[np.float64], needed: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Mean precision [B] at the 101 recalls; right, envelope [B, H]: hits so far, precision from there on."""
    draws, hits = right.shape
    # One search for all draws: each has its own range of whole numbers.
    far = int(right.max(initial=0)) + 1
    rows = np.arange(draws, dtype=np.int64)[:, None] * (far + 1)
    places = np.searchsorted((right + rows).ravel(), (np.minimum(needed, far) + rows).ravel())
    places = places.reshape(needed.shape) - np.arange(draws)[:, None] * hits
    reached = np.take_along_axis(np.append(envelope, np.zeros((draws, 1)), axis=1), np.minimum(places, hits), axis=1)
    mean: NDArray[np.float64] = reached.mean(axis=1)
    return mean


def interval(samples: NDArray[np.float64], level: float = 0.95) -> tuple[float, float] | None:
    """The range that holds the middle `level` of the samples [B]; None when fewer than half are numbers.

    Right for differences; for numbers between 0 and 1, see `score_interval`.
    """
    valid = samples[~np.isnan(samples)]
    if len(valid) * 2 < len(samples) or not len(valid):
        return None
    low, high = np.quantile(valid, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def score_interval(
    samples: NDArray[np.float64], value: float, groups: int, level: float = 0.95
) -> tuple[float, float] | None:
    """The range in which a number from 0 to 1 (an AP, a share) lies with probability `level`.

    samples [B]: what the draws gave; value: what was measured; groups: how many were drawn from. None when fewer
    than half of the samples are numbers or there are fewer than two groups.

    Where the number is near 0 or 1, or the images are few, the middle of the samples is too narrow a range and lies
    to one side: in 60 images, that of a true AP50 of 0.95 held it in 89%. So the standard deviation of the
    samples is carried to the log-odds, where the range is symmetric (Davison & Hinkley 1997, "Bootstrap methods and
    their application", section 5.2), with Student's quantile and n / (n - 1) against narrowness (Hesterberg 2015,
    "What teachers should know about the bootstrap", section 3.2).
    """
    valid = samples[~np.isnan(samples)]
    if len(valid) * 2 < len(samples) or len(valid) < 2 or groups < 2 or np.isnan(value):
        return None
    if not 0 < value < 1:  # every draw gives the same then
        return float(min(value, valid.min())), float(max(value, valid.max()))
    quantile = float(stdtrit(groups - 1, (1 + level) / 2)) * math.sqrt(groups / (groups - 1))
    step = quantile * float(valid.std(ddof=1)) / (value * (1 - value))
    odds = math.log(value / (1 - value))
    return float(expit(odds - step)), float(expit(odds + step))
