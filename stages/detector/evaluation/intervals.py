"""COCO's twelve numbers, and the counts at a threshold, for each draw of the images: what intervals are read from."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from hotcoco import COCOeval
from numpy.typing import NDArray

from detector.evaluation.bootstrap import average_precisions, score_interval
from detector.evaluation.matching import IOUS, SIZES, Matches, matches_of

AP50, AP75 = 0, 5  # rows of the ten IoUs


class Counts(NamedTuple):
    """At the operating threshold and IoU 0.5, by image and class, int [N, C]: right detections, all, objects."""

    hits: NDArray[np.int64]
    found: NDArray[np.int64]
    truths: NDArray[np.int64]

    def of_draws(self, times: NDArray[np.int32]) -> dict[str, NDArray[np.float64]]:
        """Precision, recall and F1 of all classes for each draw [B]; NaN where there is nothing to divide by."""
        hits, found, truths = (times @ column.sum(axis=1) for column in self)
        return {
            "precision": share(hits, found),
            "recall": share(hits, truths),
            "F1": share(2 * hits, np.where(truths > 0, found + truths, 0)),
        }


def counts_at(matches: Matches, threshold: float | NDArray[np.float64]) -> Counts:
    """threshold: one for all classes, or [C], one a class."""
    counted = matches.at_half()
    shape = matches.truths.shape
    limits = np.broadcast_to(np.asarray(threshold, float), shape[1:])
    above = counted.scores >= limits[counted.categories]

    def count(mask: NDArray[np.bool_]) -> NDArray[np.int64]:
        places = counted.images[mask] * shape[1] + counted.categories[mask]
        return np.bincount(places, minlength=shape[0] * shape[1]).reshape(shape)

    return Counts(count(above & counted.hits[0]), count(above), matches.truths)


class Resampled(NamedTuple):
    """What the draws of the images give, worked out once: by size of the objects ("all" and COCO's three).

    times int [B, N]: how often each image counts in each draw. precisions: average precision [B, 10, C].
    """

    times: NDArray[np.int32]
    matches: dict[str, Matches]
    precisions: dict[str, NDArray[np.float64]]


def resampled(evaluation: COCOeval, matches: Matches, times: NDArray[np.int32]) -> Resampled:
    """matches: of the evaluation, for objects of any size."""
    by_size = {"all": matches} | {size: judged(matches_of(evaluation, size)) for size in SIZES[1:]}
    return Resampled(times, by_size, {size: average_precisions(part, times) for size, part in by_size.items()})


def coco_samples(draws: Resampled) -> dict[str, NDArray[np.float64]]:
    """The 12 numbers by name for each draw [B]; NaN where a draw has no such object."""
    samples = {
        "AP": mean_over(draws.precisions["all"], (1, 2)),
        "AP50": mean_over(draws.precisions["all"][:, AP50], (1,)),
        "AP75": mean_over(draws.precisions["all"][:, AP75], (1,)),
    }
    samples |= {f"AP_{size}": mean_over(draws.precisions[size], (1, 2)) for size in SIZES[1:]}
    for most in (1, 10, 100):
        samples[f"AR{most}"] = mean_over(_recalls(draws.matches["all"], draws.times, most), (1, 2))
    for size in SIZES[1:]:
        samples[f"AR_{size}"] = mean_over(_recalls(draws.matches[size], draws.times, 100), (1, 2))
    return samples


def judged(matches: Matches) -> Matches:
    """Without the detections that count at no IoU: of a range of sizes they are most."""
    nowhere: NDArray[np.bool_] = np.all(matches.ignored, axis=0)
    return matches.chosen(~nowhere)


def _recalls(matches: Matches, times: NDArray[np.int32], most: int) -> NDArray[np.float64]:
    """Share of the objects that the best `most` detections of an image and class find [B, 10, C]."""
    images, classes = matches.truths.shape
    truths = times @ matches.truths
    found = np.zeros((IOUS, images * classes))
    first = matches.ranks() < most
    for iou in range(IOUS):
        hits = first & matches.hits[iou] & ~matches.ignored[iou]
        found[iou] = np.bincount(matches.images[hits] * classes + matches.categories[hits], minlength=images * classes)
    weights = times.astype(np.float64)  # whole numbers, which a matrix product of floats adds up exactly
    return np.stack([share(weights @ found[iou].reshape(images, classes), truths) for iou in range(IOUS)], axis=1)


def share(part: Any, whole: Any) -> NDArray[np.float64]:
    """part / whole, element by element; NaN where whole is 0."""
    part, whole = np.broadcast_arrays(np.asarray(part, float), np.asarray(whole, float))
    return np.divide(part, whole, out=np.full(whole.shape, np.nan), where=whole > 0)


def mean_over(values: NDArray[np.float64], axes: tuple[int, ...]) -> NDArray[np.float64]:
    """The mean of those that are numbers; NaN where none is."""
    valid = ~np.isnan(values)
    return share(np.where(valid, values, 0.0).sum(axis=axes), valid.sum(axis=axes))


def with_interval(name: str, value: float | None, samples: NDArray[np.float64], groups: int) -> dict[str, float | None]:
    """name, name_low and name_high; None for what does not exist.

    samples [B]: the number in other draws; groups: how many were drawn from, no interval for less than two.

    Where all draws agree, as when nothing was missed, there is no interval: the bootstrap cannot know how often
    something is missed that it never saw missed.
    """
    found = None if value is None else score_interval(samples, value, groups)
    low, high = found if found is not None and found[0] < found[1] else (None, None)
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def number(value: Any) -> float | None:
    """A float of Python, or None for NaN."""
    return None if np.isnan(value) else float(value)
