"""Which pictures to look at: whole images, and single mistakes, always under the same names."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.error_types import RIGHT, STATE, Pairs

SMALL, LARGE = 32**2, 96**2  # COCO's areas in pixels
IMAGES = ("best", "worst", "random")


class Shown(NamedTuple):
    """One picture of a gallery: a whole image, or in it the detection or the object that it is about (else -1)."""

    image: int
    detection: int = -1
    object: int = -1


def choose(pairs: Pairs, images: int, thresholds: NDArray[np.float64], count: int) -> dict[str, list[Shown]]:
    """At most `count` pictures for each gallery, by name; thresholds [C]: of each class.

    best, worst: by F1 of the image, among those with something in them. random: the same images for every
    detector. false_positives: the highest scores first. missed_small, missed_medium, missed_large: objects without
    a detection, the largest first. state_confusions: found, but in another state; the surest first.
    """
    found, missed = pairs.found(thresholds), pairs.missed(thresholds)
    galleries = {name: [Shown(int(row)) for row in rows[:count]]
                 for name, rows in ranked_images(pairs, images, thresholds).items()}  # fmt: skip
    wrong = np.flatnonzero(found & (pairs.kinds > STATE))
    galleries["false_positives"] = [Shown(int(pairs.images[place]), detection=int(place)) for place in wrong[:count]]
    area = pairs.objects.boxes_xywh[:, 2:].prod(axis=1)
    of_size = {"small": area < SMALL, "medium": (area >= SMALL) & (area < LARGE), "large": area >= LARGE}
    for size, chosen in of_size.items():
        places = np.flatnonzero(missed & chosen)
        places = places[np.argsort(-area[places], kind="stable")][:count]
        galleries[f"missed_{size}"] = [Shown(int(pairs.objects.images[p]), object=int(p)) for p in places]
    told_wrong = np.flatnonzero(found & (pairs.kinds == STATE))[:count]
    galleries["state_confusions"] = [
        Shown(int(pairs.images[place]), int(place), int(pairs.partners[place])) for place in told_wrong
    ]
    return galleries


def ranked_images(pairs: Pairs, images: int, thresholds: NDArray[np.float64]) -> dict[str, NDArray[np.int64]]:
    """Places of the images, for each of IMAGES: the best first, the worst first, and shuffled."""
    found = pairs.found(thresholds)
    right = np.bincount(pairs.images[found & (pairs.kinds <= STATE)], minlength=images)
    exactly = np.bincount(pairs.images[found & (pairs.kinds == RIGHT)], minlength=images)
    detections = np.bincount(pairs.images[found], minlength=images)
    there = np.bincount(pairs.objects.images[~pairs.objects.absent], minlength=images)
    filled = np.flatnonzero(detections + there)
    f1 = 2 * right / np.maximum(1, detections + there)
    states = exactly / np.maximum(1, right)
    errors = detections + there - 2 * right
    best = np.lexsort((-there[filled], -states[filled], -f1[filled]))
    worst = np.lexsort((states[filled], -errors[filled], f1[filled]))
    shuffled = np.random.default_rng(0).permutation(images)
    return {"best": filled[best], "worst": filled[worst], "random": shuffled}
