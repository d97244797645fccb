"""AP on parts of a dataset: by size and state of the objects, by group and any other field of the images."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from hotcoco import COCOeval
from numpy.typing import NDArray

from detector.evaluation.bootstrap import average_precisions, draws
from detector.evaluation.intervals import AP50, Resampled, judged, mean_over, number, with_interval
from detector.evaluation.matching import SIZES, Matches, matches_of

FEW_OBJECTS, FEW_IMAGES = 10, 5  # fewer say little
MOST_SLICES = 50  # of a field: more values are measurements or names, not kinds
# What every image has, and what tells images apart instead of sorting them.
NO_KINDS = ("id", "file_name", "width", "height", "content")
SMALL_GROUPS = f"groups of fewer than {FEW_IMAGES} images"


def slice_rows(
    truth: dict[str, Any], evaluation: COCOeval, groups: NDArray[np.int64], in_draws: Resampled
) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """A row a slice, with objects, images and intervals; and notes on what was not sliced.

    groups [N]: a number for each image, in the order of the ids: images with the same are drawn together.
    """
    times, whole = in_draws.times, in_draws.matches
    rows = [_row("size", size, whole[size], in_draws.precisions[size], groups) for size in SIZES[1:]]
    for state in truth["states"]:
        if state["present"]:
            kept = {a["id"] for a in truth["annotations"] if a["state"] == state["id"]}
            matches = judged(matches_of(evaluation, kept=kept))
            rows.append(_row("state", state["name"], matches, average_precisions(matches, times), groups))
    notes: dict[str, str] = {}
    images = sorted(truth["images"], key=lambda image: int(image["id"]))
    for field in sorted({key for image in images for key in image} - set(NO_KINDS)):
        values = [_value(image, field) for image in images]
        if field == "group":
            values = _pooled(values)
        names = sorted({value for value in values if value is not None})
        if len(names) > MOST_SLICES:
            notes[f"slices by {field}"] = f"{len(names)} values, more than {MOST_SLICES}"
            continue
        for name in names:
            mask = np.array([value == name for value in values])
            part, own = judged(whole["all"].of_images(mask)), groups[mask]
            if len(set(own.tolist())) == 1:
                own = np.arange(len(own))  # within one group, only its images can be drawn
            samples = average_precisions(part, draws(own, len(times), 0))
            rows.append(_row(field, name, part, samples, own, int(mask.sum())))
    return rows, notes


def _value(image: dict[str, Any], field: str) -> str | None:
    value = image.get(field)
    return None if value is None or isinstance(value, (list, dict)) else str(value)


def _pooled(values: list[str | None]) -> list[str | None]:
    """Groups, small ones as one."""
    sizes = Counter(values)
    return [None if value is None else value if sizes[value] >= FEW_IMAGES else SMALL_GROUPS for value in values]


def _row(
    by: str, name: str, matches: Matches, samples: NDArray[np.float64], groups: NDArray[np.int64],
    images: int | None = None,
) -> dict[str, Any]:  # fmt: skip
    """samples [B, 10, C]: average precision in each draw. images: of the slice; None: those that hold its objects."""
    point = average_precisions(matches, np.ones((1, len(matches.image_ids)), np.int32))
    many = len(set(groups.tolist()))
    objects = int(matches.truths.sum())
    count = int((matches.truths.sum(axis=1) > 0).sum()) if images is None else images
    return {
        "by": by,
        "slice": name,
        "images": count,
        "objects": objects,
        **with_interval("AP", number(mean_over(point, (0, 1, 2))), mean_over(samples, (1, 2)), many),
        **with_interval("AP50", number(mean_over(point[:, AP50], (0, 1))), mean_over(samples[:, AP50], (1,)), many),
        "little_data": objects < FEW_OBJECTS or count < FEW_IMAGES,
    }
