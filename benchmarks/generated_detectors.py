"""Detectors whose true AP is known: what they find and miss is drawn, and as much of it as one likes.

An image is hard or easy for everybody and holds many objects or few, so its detections hang together; an
object is found the better the easier it is, and its score follows from how well it is found, with noise.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.matching import IOUS, Matches

OBJECTS = (1.5, 1.0, 0.5)  # of each class in an image, on average
FALSE = 1.2  # detections that are wrong in an image, on average
THRESHOLDS = 0.5 + 0.05 * np.arange(IOUS)


class Scene(NamedTuple):
    """Images with objects, before anybody looks: ease [N] of images, truths int [N, C], ease of each object [O]."""

    ease: NDArray[np.float64]
    truths: NDArray[np.int64]
    objects: NDArray[np.float64]


def draw_scene(images: int, random: np.random.Generator) -> Scene:
    """Images and objects."""
    ease = random.normal(0, 0.6, images)
    truths = random.poisson(random.gamma(2, 0.5, (images, 1)) * np.array(OBJECTS))
    objects = np.repeat(ease, truths.sum(axis=1)) + random.normal(0, 1, truths.sum())
    return Scene(ease, truths, objects)


def detect(scene: Scene, skill: float, random: np.random.Generator) -> Matches:
    """What a detector finds in the scene; skill: about 0 for AP 0.2, 1 for 0.45, 2.5 for 0.8."""
    images, classes = scene.truths.shape
    place, category = (np.repeat(where.ravel(), scene.truths.ravel()) for where in np.indices(scene.truths.shape))
    quality = scene.objects + skill + random.normal(0, 0.5, len(place))
    found = quality + random.normal(0, 0.5, len(place)) > 0
    overlap = 0.4 + 0.6 / (1 + np.exp(0.6 - quality[found]))
    wrong = np.repeat(np.arange(images), random.poisson(FALSE * np.exp(-0.4 * scene.ease)))
    logits = np.append(quality[found] + random.normal(0, 0.8, int(found.sum())), random.normal(-0.6, 1, len(wrong)))
    order = np.argsort(-logits, kind="stable")
    hits = np.append(overlap > THRESHOLDS[:, None], np.zeros((IOUS, len(wrong)), bool), axis=1)
    count = len(order)
    return Matches(
        scores=(1 / (1 + np.exp(-logits)))[order],
        images=np.append(place[found], wrong)[order],
        categories=np.append(category[found], random.integers(0, classes, len(wrong)))[order],
        hits=hits[:, order],
        ignored=np.zeros((IOUS, count), bool),
        detections=np.arange(count),
        partners=np.zeros(count, np.int64),
        truths=scene.truths,
        image_ids=np.arange(1, images + 1),
        category_ids=np.arange(1, classes + 1),
    )
