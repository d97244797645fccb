"""Detections matched to labels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from detector.engine.detections import pack_rows
from detector.evaluation import label_matching
from detector.evaluation.label_matching import ImageMatch, LabelMatches
from tests.support.coco_cases import make_coco_case
from tests.support.packed import pack_labels

IMAGE = {"id": 7, "file_name": "a.jpg", "width": 200, "height": 100}


def match(
    labels: list[tuple[list[float], int]], found: list[tuple[list[float], int, float]], crowd: bool = False
) -> ImageMatch:
    truth: dict[str, Any] = {
        "images": [IMAGE],
        "annotations": [
            {"image_id": 7, "bbox": bbox, "category_id": category, "iscrowd": int(crowd)} for bbox, category in labels
        ],
    }
    predictions: Any = [
        {"image_id": 7, "bbox": bbox, "category_id": category, "score": score} for bbox, category, score in found
    ]
    (result,) = LabelMatches(pack_labels(truth), pack_rows(predictions))
    return result


BOX = [0.0, 0.0, 40.0, 40.0]
NEAR = [10.0, 0.0, 40.0, 40.0]  # IoU 0.6
TOUCHING = [30.0, 0.0, 40.0, 40.0]  # IoU 1/7


def test_empty() -> None:
    result = match([], [])
    assert (result.iou.shape, result.matches) == ((0, 0), {})
    assert match([(BOX, 1)], []).matches == {}


@pytest.mark.parametrize(
    ("bbox", "category", "matches", "is_matched"),
    [(BOX, 1, {0: 0}, True), (NEAR, 2, {0: 0}, False), (TOUCHING, 1, {0: 0}, False), (TOUCHING, 2, {}, False)],
)
def test_within_a_class_a_looser_overlap_matches(
    bbox: list[float], category: int, matches: dict[int, int], is_matched: bool
) -> None:
    result = match([(BOX, 1)], [(bbox, category, 0.9)])
    assert (result.matches, result.is_matched(0)) == (matches, is_matched)


def test_labels_and_detections_match_one_to_one() -> None:
    result = match([(BOX, 1), (NEAR, 1)], [(NEAR, 1, 0.9), (BOX, 1, 0.8), (BOX, 2, 0.1)])
    assert result.matches == {1: 0, 0: 1}


def test_confidence_is_relative_to_the_best_correct_scores() -> None:
    result = match([(BOX, 1), ([100.0, 0.0, 40.0, 40.0], 2)], [(BOX, 1, 0.4), (TOUCHING, 1, 0.2), (BOX, 2, 0.3)])
    assert result.confidence.tolist() == [1.0, 0.5, 0.3]  # class 2 has no correct detection to scale by


def test_detections_on_a_crowd_are_left_out() -> None:
    result = match([([0.0, 0.0, 100.0, 100.0], 1)], [(BOX, 1, 0.9), ([90.0, 0.0, 40.0, 40.0], 1, 0.8)], crowd=True)
    assert result.scores.tolist() == [0.8]
    assert result.labels.tolist() == []


def test_every_pass_over_any_number_of_blocks_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    coco, found = make_coco_case(3, images=11)
    labels, predictions = pack_labels(coco), pack_rows(found)
    whole = LabelMatches(labels, predictions)
    monkeypatch.setattr(label_matching, "IMAGES_AT_ONCE", 3)
    for matches in (whole, LabelMatches(labels, predictions)):
        listed = list(matches)
        assert [one.image for one in listed] == list(range(11))
        for one, other in zip(listed, whole, strict=True):
            for column, expected in zip(one, other, strict=True):
                np.testing.assert_array_equal(column, expected)
