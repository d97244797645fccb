"""The threshold, and what it gives."""

from __future__ import annotations

from typing import Any

import pytest

from detector.evaluation.coco_metrics import Prediction, evaluate_boxes
from detector.evaluation.matching import matches_of
from detector.evaluation.operating_point import at_threshold, best_f1, confusions_at


def truth(boxes: list[tuple[int, int, int]]) -> dict[str, Any]:
    """(category, left, iscrowd) of boxes of 20x20 in one image."""
    return {
        "images": [{"id": 1, "width": 400, "height": 100, "file_name": "1.jpg"}],
        "annotations": [
            {
                "id": i,
                "image_id": 1,
                "category_id": c,
                "bbox": [x, 0, 20, 20],
                "area": 400,
                "iscrowd": crowd,
                "state": 0,
            }
            for i, (c, x, crowd) in enumerate(boxes, 1)
        ],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "states": [],
    }


def found(rows: list[tuple[int, int, float]]) -> list[Prediction]:
    return [
        {"image_id": 1, "category_id": c, "bbox": [x, 0, 20, 20], "score": s, "state": 0, "state_score": 0.0}
        for c, x, s in rows
    ]


def test_best_f1_by_hand() -> None:
    everything = found([(1, 0, 0.9), (1, 100, 0.8), (2, 300, 0.7), (2, 200, 0.6), (1, 350, 0.1)])
    matches = matches_of(evaluate_boxes(truth([(1, 0, 0), (1, 100, 0), (2, 200, 0)]), everything))
    assert matches.hits[0].tolist() == [True, True, False, True, False]
    assert matches.truths.tolist() == [[2, 1]]
    point = best_f1(matches)
    assert point.threshold == pytest.approx(0.6)
    assert (point.precision, point.recall, point.f1) == pytest.approx((3 / 4, 1, 6 / 7))
    of_b = at_threshold(matches, 0.6, 1)
    assert (of_b.precision, of_b.recall) == (0.5, 1)


def test_equal_scores_count_together() -> None:
    matches = matches_of(evaluate_boxes(truth([(1, 0, 0)]), found([(1, 0, 0.5), (1, 200, 0.5), (1, 300, 0.5)])))
    point = best_f1(matches)
    assert (point.threshold, point.precision) == pytest.approx((0.5, 1 / 3))


def test_detections_on_a_crowd_are_neither_right_nor_wrong() -> None:
    matches = matches_of(evaluate_boxes(truth([(1, 0, 0), (1, 100, 1)]), found([(1, 0, 0.9), (1, 100, 0.8)])))
    assert matches.at_half().hits[0].tolist() == [True]
    assert matches.truths.tolist() == [[1, 0]]


@pytest.mark.parametrize("rows", [[], [(1, 300, 0.4)]])
def test_nothing_right(rows: list[tuple[int, int, float]]) -> None:
    point = best_f1(matches_of(evaluate_boxes(truth([(1, 0, 0)]), found(rows))))
    assert point == (0.5, 0, 0, 0)


def test_a_second_detection_of_an_object_is_wrong() -> None:
    matches = matches_of(evaluate_boxes(truth([(1, 0, 0)]), found([(1, 0, 0.9), (1, 1, 0.8)])))
    assert matches.hits[0].tolist() == [True, False]


def test_a_detection_on_a_crowd_is_no_confusion() -> None:
    there, seen = truth([(1, 0, 1), (1, 60, 0)]), found([(1, 0, 0.9), (1, 60, 0.9), (1, 30, 0.9)])
    matrix = confusions_at(0.5, there, seen, matches_of(evaluate_boxes(there, seen)))
    assert matrix.tolist() == [[1, 0, 0], [0, 0, 0], [1, 0, 0]]  # only the third is wrong
