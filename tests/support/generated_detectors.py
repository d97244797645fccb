"""Simulated detectors, whose true AP is known because any number of images can be generated.

Each image has a difficulty and a number of objects, so detections within an image are correlated. Easier objects are
found more often and localized better, and their scores are higher, with noise.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.matching import NUM_IOUS, Matches

OBJECTS = (1.5, 1.0, 0.5)  # mean number per image of each class
FALSE_POSITIVES = 1.2  # mean number per image
IOU_THRESHOLDS = 0.5 + 0.05 * np.arange(NUM_IOUS)


class Scene(NamedTuple):
    """ease [N]: of the images. object_counts int [N, C]. object_ease [O]: of each object."""

    ease: NDArray[np.float64]
    object_counts: NDArray[np.int64]
    object_ease: NDArray[np.float64]


def generate_scene(images: int, random: np.random.Generator) -> Scene:
    """Random images with objects."""
    ease = random.normal(0, 0.6, images)
    object_counts = random.poisson(random.gamma(2, 0.5, (images, 1)) * np.array(OBJECTS))
    object_ease = np.repeat(ease, object_counts.sum(axis=1)) + random.normal(0, 1, object_counts.sum())
    return Scene(ease, object_counts, object_ease)


def generate_matches(scene: Scene, skill: float, random: np.random.Generator) -> Matches:
    """The matches of a simulated detector; a skill of 0 gives an AP of about 0.2, 1 about 0.45, 2.5 about 0.8."""
    images, classes = scene.object_counts.shape
    images_of_objects, categories = (
        np.repeat(where.ravel(), scene.object_counts.ravel()) for where in np.indices(scene.object_counts.shape)
    )
    quality = scene.object_ease + skill + random.normal(0, 0.5, len(images_of_objects))
    found = quality + random.normal(0, 0.5, len(images_of_objects)) > 0
    overlap = 0.4 + 0.6 / (1 + np.exp(0.6 - quality[found]))
    wrong = np.repeat(np.arange(images), random.poisson(FALSE_POSITIVES * np.exp(-0.4 * scene.ease)))
    logits = np.append(quality[found] + random.normal(0, 0.8, int(found.sum())), random.normal(-0.6, 1, len(wrong)))
    order = np.argsort(-logits, kind="stable")
    hits = np.append(overlap > IOU_THRESHOLDS[:, None], np.zeros((NUM_IOUS, len(wrong)), bool), axis=1)
    count = len(order)
    return Matches(
        scores=(1 / (1 + np.exp(-logits)))[order],
        images=np.append(images_of_objects[found], wrong)[order],
        categories=np.append(categories[found], random.integers(0, classes, len(wrong)))[order],
        hit_bits=(hits[:, order] << np.arange(NUM_IOUS)[:, None]).sum(axis=0).astype(np.uint16),
        ignored_bits=np.zeros(count, np.uint16),
        prediction_indices=np.arange(count),
        annotation_ids=np.zeros(count, np.int64),
        object_counts=scene.object_counts,
        image_ids=np.arange(1, images + 1),
        category_ids=np.arange(1, classes + 1),
    )
