"""AP on slices of a dataset: by object size and state, by group and any other field of the images."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.engine.ground_truth import GroundTruth, ImageField
from detector.evaluation.bootstrap import bootstrap_weights, compute_average_precisions
from detector.evaluation.intervals import IOU_50, Bootstrap, add_interval, drop_ignored, nanmean, none_if_nan
from detector.evaluation.matching import SIZES, Matches, Overlaps, collect_matches

MIN_OBJECTS, MIN_IMAGES = 10, 5  # a slice with fewer has little data
MAX_SLICES = 50  # of a field: more values are measurements or names, not categories
SMALL_GROUPS = f"groups of fewer than {MIN_IMAGES} images"


def tabulate_slices(
    truth: GroundTruth, overlaps: Overlaps, groups: NDArray[np.int64], bootstrap: Bootstrap
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """One row per slice, with objects, images and intervals; and notes on what was not sliced.

    groups [N]: the group number of each image: images of one group are drawn together.
    """
    weights, matches = bootstrap.weights, bootstrap.matches
    rows = [
        _tabulate_slice("size", size, matches[size], bootstrap.precisions[size], groups=groups) for size in SIZES[1:]
    ]
    for state, (name, present) in enumerate(zip(truth.names.states, truth.names.present, strict=True), 1):
        if present:
            ids = truth.objects.ids[truth.objects.states == state]
            part = drop_ignored(collect_matches(overlaps, keep_ids=ids))
            replicates = compute_average_precisions(part, weights)
            rows.append(_tabulate_slice("state", name, part, replicates, groups=groups))
    notes: dict[str, str] = {}
    for key, field in truth.images.fields.items():
        codes, names = _pool_small_groups(field) if key == "group" else field
        if len(names) > MAX_SLICES:
            notes[f"slices by {key}"] = f"{len(names)} values, more than {MAX_SLICES}"
            continue
        for code, name in enumerate(names):
            mask = codes == code
            part, part_groups = drop_ignored(matches["all"].select_images(mask)), groups[mask]
            if len(set(part_groups.tolist())) == 1:
                part_groups = np.arange(len(part_groups))  # within one group, only its images can be drawn
            replicates = compute_average_precisions(part, bootstrap_weights(part_groups, len(weights), 0))
            row = _tabulate_slice(key, name, part, replicates, groups=part_groups, images=int(mask.sum()))
            rows.append(row)
    return rows, notes


def _pool_small_groups(field: ImageField) -> ImageField:
    """The group of each image, small groups as one."""
    sizes = np.bincount(field.codes[field.codes >= 0], minlength=len(field.names)).tolist()
    pooled = [name if size >= MIN_IMAGES else SMALL_GROUPS for name, size in zip(field.names, sizes, strict=True)]
    names = sorted(set(pooled))
    places = {name: place for place, name in enumerate(names)}
    codes = np.array([*(places[name] for name in pooled), -1], np.int32)  # the last: of an image without a group
    return ImageField(codes[field.codes], names)


def _tabulate_slice(
    by: str,
    name: str,
    matches: Matches,
    replicates: NDArray[np.float64],
    *,
    groups: NDArray[np.int64],
    images: int | None = None,
) -> dict[str, Any]:
    """replicates [B, 10, C]: average precision per bootstrap sample. images: of the slice; None: those with objects."""
    precisions = compute_average_precisions(matches, np.ones((1, len(matches.image_ids)), np.int32))
    ap, ap50 = none_if_nan(nanmean(precisions, (0, 1, 2))), none_if_nan(nanmean(precisions[:, IOU_50], (0, 1)))
    num_groups = len(set(groups.tolist()))
    objects = int(matches.object_counts.sum())
    count = int((matches.object_counts.sum(axis=1) > 0).sum()) if images is None else images
    return {
        "by": by,
        "slice": name,
        "images": count,
        "objects": objects,
        **add_interval("AP", ap, nanmean(replicates, (1, 2)), num_groups),
        **add_interval("AP50", ap50, nanmean(replicates[:, IOU_50], (1,)), num_groups),
        "little_data": objects < MIN_OBJECTS or count < MIN_IMAGES,
    }
