"""AP on slices of a dataset: by object size and state, by group and any other field of the images."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.engine.ground_truth import GroundTruth, ImageField
from detector.evaluation.bootstrap import bootstrap_weights, compute_average_precisions
from detector.evaluation.intervals import IOU_50, Bootstrap, add_interval, nanmean, none_if_nan, weigh_once
from detector.evaluation.matching import Matches, collect_matches
from detector.evaluation.overlaps import SIZES, Overlaps

MIN_OBJECTS, MIN_IMAGES = 10, 5  # a slice with fewer has little data
MAX_SLICES = 50  # of a field: more values are measurements or names, not categories
SMALL_GROUPS = f"groups of fewer than {MIN_IMAGES} images"


def tabulate_slices(
    truth: GroundTruth,
    overlaps: Overlaps,
    matches: Matches,
    groups: NDArray[np.int64],
    *,
    once: Bootstrap,
    bootstrap: Bootstrap,
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """One row per slice, with objects, images and intervals; and notes on what was not sliced.

    groups [N]: the group number of each image: images of one group are drawn together. once: with every image once.
    """
    weights = bootstrap.weights
    rows = [
        _build_row("size", size, once.precisions[size], bootstrap.precisions[size], groups,
                   objects=once.objects[size], images=once.images[size])
        for size in SIZES[1:]
    ]  # fmt: skip
    for state, (name, present) in enumerate(zip(truth.names.states, truth.names.present, strict=True), 1):
        if present:
            ids = truth.objects.ids[truth.objects.states == state]
            part = collect_matches(overlaps, keep_ids=ids)
            replicates = compute_average_precisions(part, weights)
            rows.append(_evaluate_slice("state", name, part, replicates, groups))
    notes: dict[str, str] = {}
    for key, field in truth.images.fields.items():
        codes, names = _pool_small_groups(field) if key == "group" else field
        if len(names) > MAX_SLICES:
            notes[f"slices by {key}"] = f"{len(names)} values, more than {MAX_SLICES}"
            continue
        for code, name in enumerate(names):
            mask = codes == code
            part, part_groups = matches.select_images(mask), groups[mask]
            if len(np.unique(part_groups)) == 1:
                part_groups = np.arange(len(part_groups))  # within one group, only its images can be drawn
            replicates = compute_average_precisions(part, bootstrap_weights(part_groups, len(weights), 0))
            rows.append(_evaluate_slice(key, name, part, replicates, part_groups, int(mask.sum())))
    return rows, notes


def _pool_small_groups(field: ImageField) -> ImageField:
    """The group of each image, small groups as one."""
    sizes = np.bincount(field.codes[field.codes >= 0], minlength=len(field.names)).tolist()
    pooled = [name if size >= MIN_IMAGES else SMALL_GROUPS for name, size in zip(field.names, sizes, strict=True)]
    names = sorted(set(pooled))
    places = {name: place for place, name in enumerate(names)}
    codes = np.array([*(places[name] for name in pooled), -1], np.int32)  # the last: of an image without a group
    return ImageField(codes[field.codes], names)


def _evaluate_slice(
    by: str,
    name: str,
    matches: Matches,
    replicates: NDArray[np.float64],
    groups: NDArray[np.int64],
    images: int | None = None,
) -> dict[str, Any]:
    """replicates [B, 10, C]: average precision per bootstrap sample. images: of the slice; None: those with objects."""
    precisions = compute_average_precisions(matches, weigh_once(matches.image_ids))
    per_image = matches.object_counts.sum(axis=1)
    images = int(np.count_nonzero(per_image)) if images is None else images
    return _build_row(by, name, precisions, replicates, groups, objects=int(per_image.sum()), images=images)


def _build_row(
    by: str,
    name: str,
    precisions: NDArray[np.float64],
    replicates: NDArray[np.float64],
    groups: NDArray[np.int64],
    *,
    objects: int,
    images: int,
) -> dict[str, Any]:
    """precisions [1, 10, C] and replicates [B, 10, C]: average precision, and per bootstrap sample."""
    ap, ap50 = none_if_nan(nanmean(precisions, (0, 1, 2))), none_if_nan(nanmean(precisions[:, IOU_50], (0, 1)))
    num_groups = len(np.unique(groups))
    return {
        "by": by,
        "slice": name,
        "images": images,
        "objects": objects,
        **add_interval("AP", ap, nanmean(replicates, (1, 2)), num_groups),
        **add_interval("AP50", ap50, nanmean(replicates[:, IOU_50], (1,)), num_groups),
        "little_data": objects < MIN_OBJECTS or images < MIN_IMAGES,
    }
