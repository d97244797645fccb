"""The operating threshold, and precision and recall at it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from detector.core.errors import UserError
from detector.engine.detections import Prediction
from detector.evaluation.matched_split import choose_thresholds
from detector.evaluation.matching import Matches
from detector.evaluation.operating_point import choose_threshold, compute_recall_at_precision
from detector.evaluation.settings import EvaluateParams
from tests.support.packed import match_rows, split_rows
from tests.support.references import OperatingPoint, compute_hotcoco_confusion, compute_operating_point

PARAMS: dict[str, Any] = {
    "split": "test",
    "threshold_rule": "f1",
    "threshold_per_class": False,
    "cost_ratio": 10,
    "bootstrap_samples": 1000,
    "threads": 2,
}


def make_truth(boxes: list[tuple[int, int, int]]) -> dict[str, Any]:
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


def make_predictions(rows: list[tuple[int, int, float]]) -> list[Prediction]:
    return [
        {"image_id": 1, "category_id": c, "bbox": [x, 0, 20, 20], "score": s, "state": 0, "state_score": 0.0}
        for c, x, s in rows
    ]


def best_f1(matches: Matches) -> tuple[float, OperatingPoint]:
    threshold = choose_threshold(matches, "f1", np.zeros(0), 0.0).threshold
    return threshold, compute_operating_point(matches, threshold)


def test_best_f1_by_hand() -> None:
    everything = make_predictions([(1, 0, 0.9), (1, 100, 0.8), (2, 300, 0.7), (2, 200, 0.6), (1, 350, 0.1)])
    matches = match_rows(make_truth([(1, 0, 0), (1, 100, 0), (2, 200, 0)]), everything)
    assert matches.hits().tolist() == [True, True, False, True, False]
    assert matches.object_counts.tolist() == [[2, 1]]
    threshold, point = best_f1(matches)
    assert threshold == pytest.approx(0.6)
    assert (point.precision, point.recall, point.f1) == pytest.approx((3 / 4, 1, 6 / 7))
    of_b = compute_operating_point(matches, 0.6, 1)
    assert (of_b.precision, of_b.recall) == (0.5, 1)


def test_equal_scores_count_together() -> None:
    matches = match_rows(make_truth([(1, 0, 0)]), make_predictions([(1, 0, 0.5), (1, 200, 0.5), (1, 300, 0.5)]))
    threshold, point = best_f1(matches)
    assert (threshold, point.precision) == pytest.approx((0.5, 1 / 3))


def test_detections_on_a_crowd_are_neither_right_nor_wrong() -> None:
    matches = match_rows(make_truth([(1, 0, 0), (1, 100, 1)]), make_predictions([(1, 0, 0.9), (1, 100, 0.8)]))
    assert matches.select_iou50().hits().tolist() == [True]
    assert matches.object_counts.tolist() == [[1, 0]]


@pytest.mark.parametrize("rows", [[], [(1, 300, 0.4)]])
def test_no_correct_detection(rows: list[tuple[int, int, float]]) -> None:
    assert best_f1(match_rows(make_truth([(1, 0, 0)]), make_predictions(rows))) == (0.5, (0, 0, 0))


def test_a_second_detection_of_an_object_is_wrong() -> None:
    matches = match_rows(make_truth([(1, 0, 0)]), make_predictions([(1, 0, 0.9), (1, 1, 0.8)]))
    assert matches.hits().tolist() == [True, False]


def test_detections_on_a_crowd_are_not_in_the_confusion_matrix() -> None:
    truth, predictions = (
        make_truth([(1, 0, 1), (1, 60, 0)]),
        make_predictions([(1, 0, 0.9), (1, 60, 0.9), (1, 30, 0.9)]),
    )
    matrix = compute_hotcoco_confusion(0.5, truth, predictions, match_rows(truth, predictions))
    assert matrix.tolist() == [[1, 0, 0], [0, 0, 0], [1, 0, 0]]  # only the third detection is wrong


def match_one_class(rows: list[tuple[float, bool]], objects: int) -> Matches:
    """Matches of one class from (score, correct) rows."""
    boxes = [(1, 30 * place, 0) for place in range(objects)]
    right = iter(range(objects))
    return match_rows(
        make_truth(boxes), make_predictions([(1, 30 * next(right) if hit else 390, s) for s, hit in rows])
    )


ROWS = [(0.9, True), (0.8, True), (0.7, False), (0.6, True), (0.5, False), (0.4, False)]


@pytest.mark.parametrize(
    ("rule", "threshold", "noted"),
    [
        ("f1", 0.6, False),
        ("precision>=1", 0.8, False),
        ("precision>=0.75", 0.6, False),
        ("precision>=0.6", 0.6, False),  # a threshold of 0.5 has the same recall
        ("recall>=0.5", 0.8, False),
        ("recall>=0.75", 0.6, False),
        ("recall>=0.9", 0.6, True),  # unreachable: the highest threshold with the best recall
        ("cost", 0.6, False),
    ],
)
def test_rules(rule: str, threshold: float, noted: bool) -> None:
    choice = choose_threshold(match_one_class(ROWS, 4), rule, np.array([0.3]), 10)
    assert choice.threshold == pytest.approx(threshold)
    assert bool(choice.note) == noted


def test_an_unreachable_precision_is_noted() -> None:
    choice = choose_threshold(match_one_class([(0.9, False), (0.8, True)], 1), "precision>=0.9", np.zeros(0), 10)
    assert choice.threshold == pytest.approx(0.8)
    assert "0.500" in choice.note
    assert "precision>=0.9" in choice.note


def test_detected_absent_objects_raise_the_threshold() -> None:
    matches = match_one_class(ROWS, 4)
    assert choose_threshold(matches, "cost", np.array([0.85, 0.65]), 0.4).threshold == pytest.approx(0.6)
    assert choose_threshold(matches, "cost", np.array([0.65]), 10).threshold == pytest.approx(0.8)
    assert choose_threshold(matches, "cost", np.array([0.9]), 10).threshold == pytest.approx(
        0.6
    )  # that cost is incurred at any threshold


@pytest.mark.parametrize(("precision", "recall"), [(1.0, 0.5), (0.75, 0.75), (0.1, 0.75)])
def test_recall_at_precision(precision: float, recall: float) -> None:
    assert compute_recall_at_precision(match_one_class(ROWS, 4), precision) == recall


def test_recall_at_an_unreachable_precision() -> None:
    assert compute_recall_at_precision(match_one_class([(0.9, False)], 1), 0.5) == 0
    assert compute_recall_at_precision(match_one_class([], 1), 0.5) == 0
    assert compute_recall_at_precision(match_one_class([(0.9, False)], 0), 0.5) is None


def test_each_class_has_its_own_threshold() -> None:
    there = make_truth([(1, 0, 0), (2, 100, 0)])
    rows = make_predictions([(1, 0, 0.9), (1, 300, 0.8), (2, 300, 0.3), (2, 100, 0.4)])
    thresholds = choose_thresholds(split_rows(there, rows), "f1", True, 10)
    assert thresholds.overall is None
    assert thresholds.by_class.tolist() == pytest.approx([0.9, 0.4])
    without_b = choose_thresholds(split_rows(there, rows[:2]), "f1", True, 10)
    assert without_b.by_class.tolist() == pytest.approx([0.9, 0.9])
    assert "threshold of b" in without_b.notes
    matrix = compute_hotcoco_confusion(thresholds.by_class, there, rows, match_rows(there, rows))
    assert matrix.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_cost_needs_absent_objects() -> None:
    with pytest.raises(UserError, match=r"evaluate\.threshold_rule` is cost"):
        choose_thresholds(split_rows(make_truth([(1, 0, 0)]), make_predictions([(1, 0, 0.9)])), "cost", False, 10)


@pytest.mark.parametrize("rule", ["f1", "cost", "precision>=0.9", "recall>=1", "recall>=.5", "precision>=0.95"])
def test_valid_rules_in_params(rule: str) -> None:
    assert EvaluateParams(**PARAMS | {"threshold_rule": rule}).threshold_rule == rule


@pytest.mark.parametrize("rule", ["F1", "precision", "precision>0.9", "recall>=", "recall>=1.5", ""])
def test_invalid_rules_in_params(rule: str) -> None:
    with pytest.raises(ValidationError):
        EvaluateParams(**PARAMS | {"threshold_rule": rule})
