"""COCO's twelve metrics, and precision, recall and F1, per bootstrap sample; and their confidence intervals."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from detector.engine.detections import Predictions
from detector.engine.ground_truth import GroundTruth
from detector.evaluation.bootstrap import CHUNK_ELEMENTS, compute_average_precisions, logit_interval, weigh
from detector.evaluation.matching import NUM_IOUS, Matches, collect_matches
from detector.evaluation.metric_names import interval_names
from detector.evaluation.overlaps import MAX_DETECTIONS, SIZES, Overlaps, find_overlaps

IOU_50, IOU_75 = 0, 5  # rows of the ten IoUs


class Counts(NamedTuple):
    """Hits, detections and objects at the operating threshold and IoU 0.5: int [3, N] by image, [3, C] by class."""

    by_image: NDArray[np.int64]
    by_class: NDArray[np.int64]

    def compute_scores(self, weights: NDArray[np.integer[Any]]) -> dict[str, NDArray[np.float64]]:
        """Precision, recall and F1 [B] over all classes, for weights [B, N] of the images; NaN for 0 / 0."""
        hits, detections, objects = (weigh(weights, row) for row in self.by_image)
        return {
            "precision": safe_divide(hits, detections),
            "recall": safe_divide(hits, objects),
            "F1": safe_divide(2 * hits, np.where(objects > 0, detections + objects, 0)),
        }


def count_at_threshold(matches: Matches, threshold: float | NDArray[np.float64]) -> Counts:
    """threshold: one for all classes, or one per class [C]."""
    counts = matches.object_counts
    thresholds = np.broadcast_to(np.asarray(threshold, float), counts.shape[1:])
    above = ~matches.ignored() & (matches.scores >= thresholds[matches.categories])
    masks = (above & matches.hits(), above)

    def count(axis: int, places: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
        found = (np.bincount(places[mask], minlength=counts.shape[axis]) for mask in masks)
        return np.stack([*found, counts.sum(axis=1 - axis, dtype=np.int64)])

    return Counts(count(0, matches.images), count(1, matches.categories))


class Bootstrap(NamedTuple):
    """Metrics per bootstrap sample, computed once, by object size: "all" and COCO's three.

    weights int [B, N]: how often each image counts in each sample. precisions [B, 10, C]: average precision. recalls
    [B]: COCO's average recall by name. objects, images: the numbers of objects and of images with one.
    """

    weights: NDArray[np.integer[Any]]
    precisions: dict[str, NDArray[np.float64]]
    recalls: dict[str, NDArray[np.float64]]
    objects: dict[str, int]
    images: dict[str, int]


def run_bootstrap(overlaps: Overlaps, matches: Matches, *weights: NDArray[np.integer[Any]]) -> list[Bootstrap]:
    """One result for each of the weights [B, N] of the images; matches: of objects of any size.

    The matches of a size are dropped before those of the next one are made.
    """
    results = [Bootstrap(samples, {}, {}, {}, {}) for samples in weights]
    for size in SIZES:
        part = matches if size == "all" else collect_matches(overlaps, size)
        ranks = part.rank_detections()
        limits = {f"AR{most}": most for most in (1, 10, 100)} if size == "all" else {f"AR_{size}": MAX_DETECTIONS}
        per_image = part.object_counts.sum(axis=1)
        for result in results:
            result.objects[size], result.images[size] = int(per_image.sum()), int(np.count_nonzero(per_image))
            result.precisions[size] = compute_average_precisions(part, result.weights)
            for name, most in limits.items():
                result.recalls[name] = nanmean(_compute_recalls(part, ranks < most, result.weights), (1, 2))
    return results


def bootstrap_coco_metrics(bootstrap: Bootstrap) -> dict[str, NDArray[np.float64]]:
    """COCO's 12 metrics by name per bootstrap sample [B]; NaN for a sample without such an object."""
    precisions = bootstrap.precisions
    replicates = {
        "AP": nanmean(precisions["all"], (1, 2)),
        "AP50": nanmean(precisions["all"][:, IOU_50], (1,)),
        "AP75": nanmean(precisions["all"][:, IOU_75], (1,)),
    }
    replicates |= {f"AP_{size}": nanmean(precisions[size], (1, 2)) for size in SIZES[1:]}
    return replicates | bootstrap.recalls


def compute_coco_metrics(truth: GroundTruth, predictions: Predictions) -> dict[str, float | None]:
    """COCO's 12 metrics by name, 0..1; None without such an object."""
    overlaps = find_overlaps(truth, predictions)
    (once,) = run_bootstrap(overlaps, collect_matches(overlaps), weigh_once(overlaps.image_ids))
    return read_first_sample(once)


def weigh_once(images: NDArray[Any]) -> NDArray[np.uint8]:
    """Weights [1, N] that count each of the images [N] once."""
    return np.ones((1, len(images)), np.uint8)


def read_first_sample(once: Bootstrap) -> dict[str, float | None]:
    """COCO's 12 metrics by name, of a bootstrap's first sample."""
    return {name: none_if_nan(values[0]) for name, values in bootstrap_coco_metrics(once).items()}


def _compute_recalls(
    matches: Matches, chosen: NDArray[np.bool_], weights: NDArray[np.integer[Any]]
) -> NDArray[np.float64]:
    """Recall [B, 10, C] of the chosen detections, a mask [D]."""
    images, classes = matches.object_counts.shape
    object_counts = weigh(weights, matches.object_counts)
    recalls = np.empty((len(weights), NUM_IOUS, classes))
    step = max(1, CHUNK_ELEMENTS // max(1, images))
    for iou in range(NUM_IOUS):
        places = np.flatnonzero(chosen & matches.hits(iou) & ~matches.ignored(iou))
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
