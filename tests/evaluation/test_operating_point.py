"""The threshold, and what it gives."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from detector.core.errors import UserError
from detector.engine.coco_metrics import evaluate_boxes
from detector.engine.detections import Prediction
from detector.evaluation.matched_split import judge, thresholds_on
from detector.evaluation.matching import Matches, matches_of
from detector.evaluation.operating_point import choose, recall_at_precision
from detector.evaluation.settings import EvaluateParams
from tests.support.references import OperatingPoint, at_threshold, confusions_at

PARAMS: dict[str, Any] = {
    "split": "test", "batch_size": 16,
    "threshold": "f1", "threshold_per_class": False, "cost_ratio": 10, "resamples": 1000, "gallery": 8, "threads": 2,
}  # fmt: skip


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


def best_f1(matches: Matches) -> tuple[float, OperatingPoint]:
    threshold = choose(matches, "f1", np.zeros(0), 0.0).threshold
    return threshold, at_threshold(matches, threshold)


def test_best_f1_by_hand() -> None:
    everything = found([(1, 0, 0.9), (1, 100, 0.8), (2, 300, 0.7), (2, 200, 0.6), (1, 350, 0.1)])
    matches = matches_of(evaluate_boxes(truth([(1, 0, 0), (1, 100, 0), (2, 200, 0)]), everything))
    assert matches.hits[0].tolist() == [True, True, False, True, False]
    assert matches.truths.tolist() == [[2, 1]]
    threshold, point = best_f1(matches)
    assert threshold == pytest.approx(0.6)
    assert (point.precision, point.recall, point.f1) == pytest.approx((3 / 4, 1, 6 / 7))
    of_b = at_threshold(matches, 0.6, 1)
    assert (of_b.precision, of_b.recall) == (0.5, 1)


def test_equal_scores_count_together() -> None:
    matches = matches_of(evaluate_boxes(truth([(1, 0, 0)]), found([(1, 0, 0.5), (1, 200, 0.5), (1, 300, 0.5)])))
    threshold, point = best_f1(matches)
    assert (threshold, point.precision) == pytest.approx((0.5, 1 / 3))


def test_detections_on_a_crowd_are_neither_right_nor_wrong() -> None:
    matches = matches_of(evaluate_boxes(truth([(1, 0, 0), (1, 100, 1)]), found([(1, 0, 0.9), (1, 100, 0.8)])))
    assert matches.at_half().hits[0].tolist() == [True]
    assert matches.truths.tolist() == [[1, 0]]


@pytest.mark.parametrize("rows", [[], [(1, 300, 0.4)]])
def test_nothing_right(rows: list[tuple[int, int, float]]) -> None:
    assert best_f1(matches_of(evaluate_boxes(truth([(1, 0, 0)]), found(rows)))) == (0.5, (0, 0, 0))


def test_a_second_detection_of_an_object_is_wrong() -> None:
    matches = matches_of(evaluate_boxes(truth([(1, 0, 0)]), found([(1, 0, 0.9), (1, 1, 0.8)])))
    assert matches.hits[0].tolist() == [True, False]


def test_a_detection_on_a_crowd_is_no_confusion() -> None:
    there, seen = truth([(1, 0, 1), (1, 60, 0)]), found([(1, 0, 0.9), (1, 60, 0.9), (1, 30, 0.9)])
    matrix = confusions_at(0.5, there, seen, matches_of(evaluate_boxes(there, seen)))
    assert matrix.tolist() == [[1, 0, 0], [0, 0, 0], [1, 0, 0]]  # only the third is wrong


def judged(rows: list[tuple[float, bool]], objects: int) -> Matches:
    """Detections of one class by score and whether they are right."""
    boxes = [(1, 30 * place, 0) for place in range(objects)]
    right = iter(range(objects))
    return matches_of(
        evaluate_boxes(truth(boxes), found([(1, 30 * next(right) if hit else 390, s) for s, hit in rows]))
    )


ROWS = [(0.9, True), (0.8, True), (0.7, False), (0.6, True), (0.5, False), (0.4, False)]


@pytest.mark.parametrize(
    ("rule", "threshold", "noted"),
    [
        ("f1", 0.6, False),
        ("precision>=1", 0.8, False),
        ("precision>=0.75", 0.6, False),
        ("precision>=0.6", 0.6, False),  # 0.5 gives no more recall
        ("recall>=0.5", 0.8, False),
        ("recall>=0.75", 0.6, False),
        ("recall>=0.9", 0.6, True),  # the highest threshold of those that come nearest
        ("cost", 0.6, False),
    ],
)
def test_rules(rule: str, threshold: float, noted: bool) -> None:
    choice = choose(judged(ROWS, 4), rule, np.array([0.3]), 10)
    assert choice.threshold == pytest.approx(threshold)
    assert bool(choice.note) == noted


def test_a_precision_out_of_reach_is_told() -> None:
    choice = choose(judged([(0.9, False), (0.8, True)], 1), "precision>=0.9", np.zeros(0), 10)
    assert choice.threshold == pytest.approx(0.8)
    assert choice.note == "val reaches 0.500 at most, not precision>=0.9"


def test_ghosts_make_the_threshold_rise() -> None:
    matches = judged(ROWS, 4)
    assert choose(matches, "cost", np.array([0.85, 0.65]), 0.4).threshold == pytest.approx(0.6)
    assert choose(matches, "cost", np.array([0.65]), 10).threshold == pytest.approx(0.8)
    assert choose(matches, "cost", np.array([0.9]), 10).threshold == pytest.approx(0.6)  # that cost is due anyway


@pytest.mark.parametrize(("precision", "recall"), [(1.0, 0.5), (0.75, 0.75), (0.1, 0.75)])
def test_recall_at_precision(precision: float, recall: float) -> None:
    assert recall_at_precision(judged(ROWS, 4), precision) == recall


def test_recall_at_a_precision_out_of_reach() -> None:
    assert recall_at_precision(judged([(0.9, False)], 1), 0.5) == 0
    assert recall_at_precision(judged([], 1), 0.5) == 0
    assert recall_at_precision(judged([(0.9, False)], 0), 0.5) is None


def test_each_class_has_its_own_threshold() -> None:
    there = truth([(1, 0, 0), (2, 100, 0)])
    rows = found([(1, 0, 0.9), (1, 300, 0.8), (2, 300, 0.3), (2, 100, 0.4)])
    thresholds = thresholds_on(judge(there, rows), "f1", True, 10)
    assert thresholds.overall is None
    assert thresholds.limits.tolist() == pytest.approx([0.9, 0.4])
    nothing_of_b = thresholds_on(judge(there, rows[:2]), "f1", True, 10)
    assert nothing_of_b.limits.tolist() == pytest.approx([0.9, 0.9])
    assert "threshold of b" in nothing_of_b.notes
    matrix = confusions_at(thresholds.limits, there, rows, matches_of(evaluate_boxes(there, rows)))
    assert matrix.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_cost_needs_absent_objects() -> None:
    with pytest.raises(UserError, match=r"evaluate\.threshold` is cost.*choose f1"):
        thresholds_on(judge(truth([(1, 0, 0)]), found([(1, 0, 0.9)])), "cost", False, 10)


@pytest.mark.parametrize("rule", ["f1", "cost", "precision>=0.9", "recall>=1", "recall>=.5", "precision>=0.95"])
def test_rules_that_params_take(rule: str) -> None:
    assert EvaluateParams(**PARAMS | {"threshold": rule}).threshold == rule


@pytest.mark.parametrize("rule", ["F1", "precision", "precision>0.9", "recall>=", "recall>=1.5", ""])
def test_rules_that_params_refuse(rule: str) -> None:
    with pytest.raises(ValidationError):
        EvaluateParams(**PARAMS | {"threshold": rule})
