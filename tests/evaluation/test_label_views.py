"""Which detection is about which label."""

from __future__ import annotations

from typing import Any

import pytest

from detector.evaluation.label_views import View, views_of

IMAGE = {"id": 7, "file_name": "a.jpg", "width": 200, "height": 100}


def view(
    labels: list[tuple[list[float], int]], found: list[tuple[list[float], int, float]], crowd: bool = False
) -> View:
    truth: dict[str, Any] = {
        "images": [IMAGE],
        "annotations": [
            {"image_id": 7, "bbox": bbox, "category_id": category, "iscrowd": int(crowd)} for bbox, category in labels
        ],
    }
    predictions: Any = [
        {"image_id": 7, "bbox": bbox, "category_id": category, "score": score} for bbox, category, score in found
    ]
    (seen,) = views_of(truth, predictions)
    return seen


BOX = [0.0, 0.0, 40.0, 40.0]
NEAR = [10.0, 0.0, 40.0, 40.0]  # IoU 0.6
TOUCHING = [30.0, 0.0, 40.0, 40.0]  # IoU 1/7


def test_empty() -> None:
    seen = view([], [])
    assert (seen.iou.shape, seen.pairs) == ((0, 0), {})
    assert view([(BOX, 1)], []).pairs == {}


@pytest.mark.parametrize(
    ("bbox", "category", "pairs", "finds"),
    [(BOX, 1, {0: 0}, True), (NEAR, 2, {0: 0}, False), (TOUCHING, 1, {0: 0}, False), (TOUCHING, 2, {}, False)],
)
def test_of_its_class_a_detection_may_lie_further_away(
    bbox: list[float], category: int, pairs: dict[int, int], finds: bool
) -> None:
    seen = view([(BOX, 1)], [(bbox, category, 0.9)])
    assert (seen.pairs, seen.finds(0)) == (pairs, finds)


def test_a_detection_is_about_one_label_and_a_label_has_one_detection() -> None:
    seen = view([(BOX, 1), (NEAR, 1)], [(NEAR, 1, 0.9), (BOX, 1, 0.8), (BOX, 2, 0.1)])
    assert seen.pairs == {1: 0, 0: 1}


def test_scores_are_shares_of_the_surest_right_ones() -> None:
    seen = view([(BOX, 1), ([100.0, 0.0, 40.0, 40.0], 2)], [(BOX, 1, 0.4), (TOUCHING, 1, 0.2), (BOX, 2, 0.3)])
    assert seen.sure.tolist() == [1.0, 0.5, 0.3]  # class 2 has no right one to go by


def test_what_lies_on_a_crowd_is_left_out() -> None:
    seen = view([([0.0, 0.0, 100.0, 100.0], 1)], [(BOX, 1, 0.9), ([90.0, 0.0, 40.0, 40.0], 1, 0.8)], crowd=True)
    assert [prediction["score"] for prediction in seen.predictions] == [0.8]
    assert seen.annotations == []
