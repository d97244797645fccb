"""COCO's twelve metrics, and precision, recall and F1, per bootstrap sample; and their confidence intervals."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from detector.engine.detections import Predictions
from detector.engine.ground_truth import GroundTruth
from detector.evaluation.bootstrap import CHUNK_ELEMENTS, compute_average_precisions, logit_interval, weigh
from detector.evaluation.matching import NUM_IOUS, SIZES, Matches, Overlaps, collect_matches, find_overlaps
from detector.evaluation.metric_names import interval_names

IOU_50, IOU_75 = 0, 5  # rows of the ten IoUs


class Counts(NamedTuple):
    """Counts int [N, C] per image and class, at the operating threshold and IoU 0.5."""

    hits: NDArray[np.integer[Any]]
    detections: NDArray[np.integer[Any]]
    objects: NDArray[np.integer[Any]]

    def compute_scores(self, weights: NDArray[np.integer[Any]]) -> dict[str, NDArray[np.float64]]:
        """Precision, recall and F1 [B] over all classes, for weights [B, N] of the images; NaN for 0 / 0."""
        hits, detections, objects = (weigh(weights, column.sum(axis=1)) for column in self)
        return {
            "precision": safe_divide(hits, detections),
            "recall": safe_divide(hits, objects),
            "F1": safe_divide(2 * hits, np.where(objects > 0, detections + objects, 0)),
        }


def count_at_threshold(matches: Matches, threshold: float | NDArray[np.float64]) -> Counts:
    """threshold: one for all classes, or one per class [C]."""
    counted = matches.select_iou50()
    shape = matches.object_counts.shape
    thresholds = np.broadcast_to(np.asarray(threshold, float), shape[1:])
    above = counted.scores >= thresholds[counted.categories]

    def count(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
        cells = counted.images[mask].astype(np.int64) * shape[1] + counted.categories[mask]
        return np.bincount(cells, minlength=shape[0] * shape[1]).astype(np.int32).reshape(shape)

    return Counts(count(above & counted.hits[0]), count(above), matches.object_counts)


class Bootstrap(NamedTuple):
    """Average precisions per bootstrap sample, computed once, by object size: "all" and COCO's three.

    weights int [B, N]: how often each image counts in each sample. precisions [B, 10, C]: average precision.
    """

    weights: NDArray[np.integer[Any]]
    matches: dict[str, Matches]
    precisions: dict[str, NDArray[np.float64]]


def match_sizes(overlaps: Overlaps, matches: Matches) -> dict[str, Matches]:
    """The matches of objects of each size; matches: of any."""
    return {"all": matches} | {size: drop_ignored(collect_matches(overlaps, size)) for size in SIZES[1:]}


def run_bootstrap(by_size: dict[str, Matches], weights: NDArray[np.integer[Any]]) -> Bootstrap:
    """by_size: from `match_sizes`; weights [B, N] of the images."""
    precisions = {size: compute_average_precisions(part, weights) for size, part in by_size.items()}
    return Bootstrap(weights, by_size, precisions)


def bootstrap_coco_metrics(bootstrap: Bootstrap) -> dict[str, NDArray[np.float64]]:
    """COCO's 12 metrics by name per bootstrap sample [B]; NaN for a sample without such an object."""
    precisions = bootstrap.precisions
    replicates = {
        "AP": nanmean(precisions["all"], (1, 2)),
        "AP50": nanmean(precisions["all"][:, IOU_50], (1,)),
        "AP75": nanmean(precisions["all"][:, IOU_75], (1,)),
    }
    replicates |= {f"AP_{size}": nanmean(precisions[size], (1, 2)) for size in SIZES[1:]}
    for most in (1, 10, 100):
        replicates[f"AR{most}"] = nanmean(_compute_recalls(bootstrap.matches["all"], bootstrap.weights, most), (1, 2))
    for size in SIZES[1:]:
        replicates[f"AR_{size}"] = nanmean(_compute_recalls(bootstrap.matches[size], bootstrap.weights, 100), (1, 2))
    return replicates


def drop_ignored(matches: Matches) -> Matches:
    """Without the detections that are ignored at every IoU: within a size range, most are."""
    ignored: NDArray[np.bool_] = np.all(matches.ignored, axis=0)
    return matches.select(~ignored)


def compute_coco_metrics(truth: GroundTruth, predictions: Predictions) -> dict[str, float | None]:
    """COCO's 12 metrics by name, 0..1; None without such an object."""
    overlaps = find_overlaps(truth, predictions)
    weights = np.ones((1, len(overlaps.image_ids)), np.int32)
    return read_first_sample(run_bootstrap(match_sizes(overlaps, collect_matches(overlaps)), weights))


def read_first_sample(once: Bootstrap) -> dict[str, float | None]:
    """COCO's 12 metrics by name, of a bootstrap's first sample."""
    return {name: none_if_nan(values[0]) for name, values in bootstrap_coco_metrics(once).items()}


def _compute_recalls(matches: Matches, weights: NDArray[np.integer[Any]], most: int) -> NDArray[np.float64]:
    """Recall [B, 10, C] of the best `most` detections per image and class."""
    images, classes = matches.object_counts.shape
    first = matches.rank_detections() < most
    object_counts = weigh(weights, matches.object_counts)
    recalls = np.empty((len(weights), NUM_IOUS, classes))
    step = max(1, CHUNK_ELEMENTS // max(1, images))
    for iou in range(NUM_IOUS):
        places = np.flatnonzero(first & matches.hits[iou] & ~matches.ignored[iou])
        cells = (matches.categories[places], matches.images[places])
        hits = csr_array((np.ones(len(places)), cells), (classes, images))
        for start in range(0, len(weights), step):
            part = slice(start, start + step)
            hit_counts = (hits @ weights[part].T.astype(np.float64)).T  # [B, C]
            recalls[part, iou] = safe_divide(hit_counts, object_counts[part])
    return recalls


def safe_divide(part: Any, whole: Any) -> NDArray[np.float64]:
    """part / whole, element by element; NaN where whole is 0."""
    part, whole = np.broadcast_arrays(np.asarray(part, float), np.asarray(whole, float))
    ratio: NDArray[np.float64] = np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)
    return ratio


def nanmean(values: NDArray[np.float64], axes: tuple[int, ...]) -> NDArray[np.float64]:
    """The mean of the values that are not NaN; NaN, without a warning, where there are none."""
    valid = ~np.isnan(values)
    return safe_divide(np.where(valid, values, 0.0).sum(axis=axes), valid.sum(axis=axes))


def add_interval(
    name: str, value: float | None, replicates: NDArray[np.float64], groups: int
) -> dict[str, float | None]:
    """A metric as name, name_low and name_high; None for what does not exist.

    replicates [B]: the metric per bootstrap sample. groups: number of groups drawn from; below two, no interval.

    There is no interval where all replicates agree, as when no object was missed: the bootstrap cannot estimate the
    rate of an event that it never saw.
    """
    bounds = None if value is None else logit_interval(replicates, value, groups)
    low, high = bounds if bounds is not None and bounds[0] < bounds[1] else (None, None)
    low_name, high_name = interval_names(name)
    return {name: value, low_name: low, high_name: high}


def none_if_nan(value: Any) -> float | None:
    """A Python float, or None for NaN."""
    return None if np.isnan(value) else float(value)
