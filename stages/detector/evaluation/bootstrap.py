"""Bootstrap over the images: the sampling uncertainty of a metric.

Detections are matched once; a bootstrap sample only says how often each image counts. Images of one group (frames
of a sequence) are drawn together. Efron 1979, "Bootstrap methods: another look at the jackknife".
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, stdtrit

from detector.evaluation.matching import NUM_IOUS, Matches

CHUNK_ELEMENTS = 4_000_000  # of a temporary array
RECALLS = np.linspace(0, 1, 101)


def bootstrap_weights(groups: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int32]:
    """How often each image counts in each of `count` bootstrap samples [count, N]; groups [N]: the group of each."""
    _, members = np.unique(groups, return_inverse=True)
    num_groups = int(members.max(initial=-1)) + 1
    drawn = np.random.default_rng(seed).integers(0, max(1, num_groups), (count, num_groups))
    weights = np.zeros((count, num_groups), np.int32)
    np.add.at(weights, (np.arange(count)[:, None], drawn), 1)
    return weights[:, members]


def compute_average_precisions(matches: Matches, weights: NDArray[np.int32]) -> NDArray[np.float64]:
    """COCO's average precision [B, 10, C] per bootstrap sample (weights [B, N] of the images), IoU and class.

    NaN for a class without objects in a sample. With weights of 1 it equals pycocotools' numbers.
    """
    object_counts = weights.astype(np.int64) @ matches.object_counts  # [B, C]
    precision = np.full((len(weights), NUM_IOUS, object_counts.shape[1]), np.nan)
    for category in range(object_counts.shape[1]):
        class_matches = matches.select(matches.categories == category)
        step = max(1, CHUNK_ELEMENTS // max(1, len(class_matches.scores)))
        for start in range(0, len(weights), step):
            chunk = slice(start, start + step)
            precision[chunk, :, category] = _class_average_precision(
                class_matches, weights[chunk], object_counts[chunk, category]
            )
    return precision


def _class_average_precision(
    matches: Matches, weights: NDArray[np.int32], object_counts: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Average precision [B, 10] of the one class that `matches` holds."""
    result = np.where(object_counts[:, None] > 0, 0.0, np.nan).repeat(NUM_IOUS, axis=1)
    detection_weights = weights[:, matches.images]  # [B, D]
    detections_so_far = np.cumsum(detection_weights, axis=1)
    hits_needed = _hits_needed(object_counts)
    for iou in range(NUM_IOUS):
        hits = np.flatnonzero(matches.hits[iou] & ~matches.ignored[iou])
        if not len(hits):
            continue
        hits_so_far = np.cumsum(detection_weights[:, hits], axis=1)  # [B, H]
        ignored = np.flatnonzero(matches.ignored[iou])
        counted_so_far = detections_so_far[:, hits]
        if len(ignored):
            ignored_so_far = np.cumsum(detection_weights[:, ignored], axis=1)
            before = np.searchsorted(ignored, hits)  # ignored detections before each hit
            counted_so_far = counted_so_far - np.where(before > 0, ignored_so_far[:, np.maximum(before - 1, 0)], 0)
        # Precision has its local maxima at hits, so only these matter.
        precision = hits_so_far / np.maximum(counted_so_far, 1)
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        mean_precision = _mean_over_recalls(hits_so_far, envelope, hits_needed)
        result[:, iou] = np.where(object_counts > 0, mean_precision, np.nan)
    return result


def _hits_needed(object_counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """The number of hits [B, 101] that reaches each of the 101 recalls, given the number of objects [B]."""
    different, rows = np.unique(object_counts, return_inverse=True)
    # The same division as in pycocotools, for the same rounding.
    needed = [np.searchsorted(np.arange(count + 1) / max(1, count), RECALLS) for count in different]
    return np.array(needed, np.int64).reshape(-1, len(RECALLS))[rows]


def _mean_over_recalls(
    hits_so_far: NDArray[np.int32], envelope: NDArray[np.float64], hits_needed: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Mean precision [B] at the 101 recalls; hits_so_far, envelope [B, H]: hits and highest later precision."""
    samples, hits = hits_so_far.shape
    # One search for all samples: each has its own range of integers.
    limit = int(hits_so_far.max(initial=0)) + 1
    offsets = np.arange(samples, dtype=np.int64)[:, None] * (limit + 1)
    positions = np.searchsorted((hits_so_far + offsets).ravel(), (np.minimum(hits_needed, limit) + offsets).ravel())
    positions = positions.reshape(hits_needed.shape) - np.arange(samples)[:, None] * hits
    padded = np.append(envelope, np.zeros((samples, 1)), axis=1)
    precision = np.take_along_axis(padded, np.minimum(positions, hits), axis=1)
    mean: NDArray[np.float64] = precision.mean(axis=1)
    return mean


def percentile_interval(replicates: NDArray[np.float64], level: float = 0.95) -> tuple[float, float] | None:
    """The range of the middle `level` of the bootstrap replicates [B]; None when fewer than half are numbers.

    For differences; for metrics between 0 and 1, see `logit_interval`.
    """
    valid = replicates[~np.isnan(replicates)]
    if len(valid) * 2 < len(replicates) or not len(valid):
        return None
    low, high = np.quantile(valid, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def logit_interval(
    replicates: NDArray[np.float64], value: float, groups: int, level: float = 0.95
) -> tuple[float, float] | None:
    """Confidence interval of a metric from 0 to 1, such as AP or precision, symmetric in its log-odds.

    replicates [B]: the metric in each bootstrap sample; value: the metric itself; groups: number of groups that were
    drawn from. None when fewer than half of the replicates are numbers or there are fewer than two groups.

    For few images or a metric near 0 or 1, the percentile interval is too narrow and off-center: with 60 images it
    covered a true AP50 of 0.95 in 89% of the cases. So the standard deviation of the replicates is carried to the
    log-odds, where the interval is symmetric (Davison & Hinkley 1997, "Bootstrap methods and their application",
    section 5.2), with Student's quantile and n / (n - 1) against narrowness (Hesterberg 2015, "What teachers should
    know about the bootstrap", section 3.2).
    """
    valid = replicates[~np.isnan(replicates)]
    if len(valid) * 2 < len(replicates) or len(valid) < 2 or groups < 2 or np.isnan(value):
        return None
    if not 0 < value < 1:  # all replicates are equal then
        return float(min(value, valid.min())), float(max(value, valid.max()))
    quantile = float(stdtrit(groups - 1, (1 + level) / 2)) * math.sqrt(groups / (groups - 1))
    step = quantile * float(valid.std(ddof=1)) / (value * (1 - value))
    odds = math.log(value / (1 - value))
    return float(expit(odds - step)), float(expit(odds + step))
