"""Images of rare classes are drawn more often."""

from __future__ import annotations

import numpy as np
import pytest

from detector.engine.dataset import pack_annotations
from detector.training.repeat_factors import compute_repeat_factors


def factors(labels: list[list[int]], threshold: float) -> list[float]:
    """Repeat factors of images with objects of these labels."""
    images = [{"id": i, "file_name": f"{i}.png", "width": 9, "height": 9} for i in range(len(labels))]
    objects = [
        {"image_id": i, "category_id": label, "bbox": [0, 0, 5, 5], "iscrowd": 0, "state": 0}
        for i, found in enumerate(labels)
        for label in found
    ]
    annotations = pack_annotations({"images": images, "annotations": objects})
    factors: list[float] = compute_repeat_factors(annotations, threshold).tolist()
    return factors


def test_the_rarest_class_of_an_image_decides() -> None:
    # Class 1 is in 4 of 5 images, 2 in 2, 3 in 1; the number of objects per image does not matter.
    found = factors([[1, 1, 1], [2, 1], [1], [1, 2, 2, 3], []], 0.8)
    assert found == pytest.approx([1, np.sqrt(2), 1, 2, 1])


def test_frequent_classes_are_never_drawn_less() -> None:
    assert factors([[1], [1], [1, 2], [2]], 0.5) == [1, 1, 1, 1]
    assert factors([[1], [1], [1], [2]], 0.01) == [1, 1, 1, 1]


def test_no_objects() -> None:
    assert factors([[], []], 0.5) == [1, 1]
