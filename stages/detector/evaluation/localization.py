"""How well the boxes of right detections fit: IoU, and area too large or too small."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.engine.detections import Prediction
from detector.evaluation.intervals import number, share
from detector.evaluation.matching import Matches


class Pairs(NamedTuple):
    """Detections at or above their threshold with the objects that they found at IoU 0.5.

    categories, images int [P]: places of class and image; ious float [P]; areas float [P]: of the detection, as a
    share of the object's.
    """

    categories: NDArray[np.int64]
    images: NDArray[np.int64]
    ious: NDArray[np.float64]
    areas: NDArray[np.float64]


def pairs_of(
    truth: dict[str, Any], predictions: list[Prediction], matches: Matches, limits: NDArray[np.float64]
) -> Pairs:
    """limits [C]: threshold of each class."""
    counted = matches.at_half()
    right = counted.chosen(counted.hits[0] & (counted.scores >= limits[counted.categories]))
    box_of = {annotation["id"]: annotation["bbox"] for annotation in truth["annotations"]}
    found = np.array([predictions[place]["bbox"] for place in right.detections], float).reshape(-1, 4)
    there = np.array([box_of[id_] for id_ in right.partners.tolist()], float).reshape(-1, 4)
    ends = np.minimum(found[:, :2] + found[:, 2:], there[:, :2] + there[:, 2:])
    sides = np.clip(ends - np.maximum(found[:, :2], there[:, :2]), 0, None)
    both, area, true_area = sides.prod(axis=1), found[:, 2:].prod(axis=1), there[:, 2:].prod(axis=1)
    return Pairs(right.categories, right.images, both / (area + true_area - both), area / true_area)


def mean_iou(pairs: Pairs) -> float | None:
    """Over all pairs; None without any."""
    return float(pairs.ious.mean()) if len(pairs.ious) else None


def mean_ious_of_draws(pairs: Pairs, times: NDArray[np.int32]) -> NDArray[np.float64]:
    """For each draw of the images [B]; NaN for one without pairs."""
    images = times.shape[1]
    sums = np.bincount(pairs.images, pairs.ious, minlength=images)
    return share(times @ sums, times @ np.bincount(pairs.images, minlength=images))


def localization_rows(pairs: Pairs, classes: list[str]) -> list[dict[str, Any]]:
    """Of each class: matched pairs, mean IoU, mean |area / true area - 1|, and the share of boxes too large."""
    rows = []
    for index, name in enumerate(classes):
        chosen = pairs.categories == index
        areas, count = pairs.areas[chosen], int(chosen.sum())
        rows.append(
            {
                "class": name,
                "matched": count,
                "mean_IoU": number(share(pairs.ious[chosen].sum(), count)),
                "mean_area_error": number(share(np.abs(areas - 1).sum(), count)),
                "larger": number(share((areas > 1).sum(), count)),
            }
        )
    return rows
