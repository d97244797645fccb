"""Selects what each gallery shows: whole images and single errors, always under the same names."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.error_types import CORRECT, MISSED, WRONG_STATE, ErrorAnalysis

GALLERY_SIZE = 8  # pictures per gallery
SMALL_AREA, LARGE_AREA = 32**2, 96**2  # COCO's area bounds in square pixels
# Titles of error_types.ERROR_TYPES and MISSED in captions and in the report.
ERROR_TITLES = {
    "correct": "correct",
    "state": "wrong state",
    "class": "wrong class",
    "localization": "localization",
    "duplicate": "duplicate",
    "absent": "absent object",
    "background": "background",
    MISSED: "missed",
}


class GalleryPicture(NamedTuple):
    """One picture of a gallery: a whole image, or one detection or object in it; -1 for none.

    image, detection, object: indices into the images, the detections and the objects of an `ErrorAnalysis`.
    """

    image: int
    detection: int = -1
    object: int = -1

    @property
    def shows_whole_image(self) -> bool:
        """Whether the picture is about the image rather than one detection or object."""
        return self.detection < 0 and self.object < 0


def select_gallery_pictures(
    analysis: ErrorAnalysis, images: int, thresholds: NDArray[np.float64], count: int
) -> dict[str, list[GalleryPicture]]:
    """At most `count` pictures per gallery, by gallery name.

    images: number of images. thresholds float [C]: score threshold of each class.

    best, worst: by the image's F1, among images with an object or a detection. random: the same images for every
    detector. false_positives: highest score first. missed_small, missed_medium, missed_large: objects without a
    detection, largest first. state_confusions: detected with the wrong state, highest score first.
    """
    detected, missed = analysis.select_detections(thresholds), analysis.select_missed(thresholds)
    ranks = rank_images(analysis, images, thresholds)
    galleries = {name: [GalleryPicture(int(image)) for image in order[:count]] for name, order in ranks.items()}
    wrong = np.flatnonzero(detected & (analysis.error_types > WRONG_STATE))
    galleries["false_positives"] = [GalleryPicture(int(analysis.images[d]), detection=int(d)) for d in wrong[:count]]
    area = analysis.objects.boxes_xywh[:, 2:].prod(axis=1)
    small, large = area < SMALL_AREA, area >= LARGE_AREA
    by_size = {"small": small, "medium": ~small & ~large, "large": large}
    for size, has_size in by_size.items():
        indices = np.flatnonzero(missed & has_size)
        indices = indices[np.argsort(-area[indices], kind="stable")][:count]
        galleries[f"missed_{size}"] = [GalleryPicture(int(analysis.objects.images[o]), object=int(o)) for o in indices]
    wrong_state = np.flatnonzero(detected & (analysis.error_types == WRONG_STATE))[:count]
    galleries["state_confusions"] = [
        GalleryPicture(int(analysis.images[d]), int(d), int(analysis.object_indices[d])) for d in wrong_state
    ]
    return galleries


def rank_images(analysis: ErrorAnalysis, images: int, thresholds: NDArray[np.float64]) -> dict[str, NDArray[np.int64]]:
    """Indices of the images by gallery: best first, worst first, and in a fixed random order."""
    detected = analysis.select_detections(thresholds)
    matched = np.bincount(analysis.images[detected & (analysis.error_types <= WRONG_STATE)], minlength=images)
    correct = np.bincount(analysis.images[detected & (analysis.error_types == CORRECT)], minlength=images)
    detections = np.bincount(analysis.images[detected], minlength=images)
    objects = np.bincount(analysis.objects.images[~analysis.objects.absent], minlength=images)
    ranked = np.flatnonzero(detections + objects)
    f1 = 2 * matched / np.maximum(1, detections + objects)
    state_accuracy = correct / np.maximum(1, matched)
    errors = detections + objects - 2 * matched
    best = np.lexsort((-objects[ranked], -state_accuracy[ranked], -f1[ranked]))
    worst = np.lexsort((state_accuracy[ranked], -errors[ranked], f1[ranked]))
    shuffled = np.random.default_rng(0).permutation(images)
    return {"best": ranked[best], "worst": ranked[worst], "random": shuffled}
