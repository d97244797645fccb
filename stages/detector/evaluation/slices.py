"""AP on slices of a dataset: by object size and state, by group and any other field of the images."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.bootstrap import bootstrap_weights, compute_average_precisions
from detector.evaluation.intervals import IOU_50, Bootstrap, add_interval, drop_ignored, nanmean, none_if_nan
from detector.evaluation.matching import SIZES, Matches, Overlaps, collect_matches

MIN_OBJECTS, MIN_IMAGES = 10, 5  # a slice with fewer has little data
MAX_SLICES = 50  # of a field: more values are measurements or names, not categories
# Fields that every image has, and those that identify images.
IGNORED_FIELDS = ("id", "file_name", "width", "height", "content")
SMALL_GROUPS = f"groups of fewer than {MIN_IMAGES} images"


def tabulate_slices(
    truth: dict[str, Any], overlaps: Overlaps, groups: NDArray[np.int64], bootstrap: Bootstrap
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """One row per slice, with objects, images and intervals; and notes on what was not sliced.

    groups [N]: the group number of each image, in the order of the ids: images of one group are drawn together.
    """
    weights, matches = bootstrap.weights, bootstrap.matches
    rows = [
        _tabulate_slice("size", size, matches[size], bootstrap.precisions[size], groups=groups) for size in SIZES[1:]
    ]
    for state in truth["states"]:
        if state["present"]:
            ids = {a["id"] for a in truth["annotations"] if a["state"] == state["id"]}
            part = drop_ignored(collect_matches(overlaps, keep_ids=ids))
            replicates = compute_average_precisions(part, weights)
            rows.append(_tabulate_slice("state", state["name"], part, replicates, groups=groups))
    notes: dict[str, str] = {}
    images = sorted(truth["images"], key=lambda image: int(image["id"]))
    for field in sorted({key for image in images for key in image} - set(IGNORED_FIELDS)):
        values = [_read_value(image, field) for image in images]
        if field == "group":
            values = _pool_small_groups(values)
        names = sorted({value for value in values if value is not None})
        if len(names) > MAX_SLICES:
            notes[f"slices by {field}"] = f"{len(names)} values, more than {MAX_SLICES}"
            continue
        for name in names:
            mask = np.array([value == name for value in values])
            part, part_groups = drop_ignored(matches["all"].select_images(mask)), groups[mask]
            if len(set(part_groups.tolist())) == 1:
                part_groups = np.arange(len(part_groups))  # within one group, only its images can be drawn
            replicates = compute_average_precisions(part, bootstrap_weights(part_groups, len(weights), 0))
            row = _tabulate_slice(field, name, part, replicates, groups=part_groups, images=int(mask.sum()))
            rows.append(row)
    return rows, notes


def _read_value(image: dict[str, Any], field: str) -> str | None:
    value = image.get(field)
    return None if value is None or isinstance(value, (list, dict)) else str(value)


def _pool_small_groups(values: list[str | None]) -> list[str | None]:
    """The group of each image, small groups as one."""
    sizes = Counter(values)
    return [None if value is None else value if sizes[value] >= MIN_IMAGES else SMALL_GROUPS for value in values]


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
