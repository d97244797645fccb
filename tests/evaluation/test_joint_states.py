"""States end to end, and detections of absent objects."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.engine.coco_metrics import evaluate_boxes, read_coco_metrics
from detector.engine.detections import Prediction, pack_rows
from detector.evaluation.joint_states import combine_class_and_state, compute_joint_ap
from detector.evaluation.matched_split import choose_thresholds
from detector.evaluation.state_metrics import compute_hallucination, compute_state_metrics
from tests.support.coco_cases import make_coco_case
from tests.support.packed import split_rows


def row_of_boxes(objects: list[tuple[int, int]], found: list[tuple[int, int, float]]) -> Any:
    """One image; (class, state) of objects 50 pixels apart; (place, state, score) of detections of the right class."""
    coco, _ = make_coco_case(0, images=2, objects=0, classes=2)
    coco["annotations"] = [
        {
            "id": n + 1,
            "image_id": 1,
            "category_id": c,
            "bbox": [n * 50, 0, 40, 40],
            "area": 1600,
            "iscrowd": 0,
            "state": s,
        }
        for n, (c, s) in enumerate(objects)
    ]
    predictions: list[Prediction] = [
        {
            "image_id": 1,
            "category_id": objects[n][0],
            "bbox": [n * 50.0, 0, 40, 40],
            "score": score,
            "state": s,
            "state_score": 1.0,
        }
        for n, s, score in found
    ]
    return coco, predictions


def test_joint_by_hand() -> None:
    coco, found = row_of_boxes([(1, 1), (1, 1), (1, 2), (2, 2)], [(0, 1, 0.9), (1, 2, 0.8), (2, 2, 0.7), (3, 2, 0.6)])
    joint = compute_joint_ap(
        split_rows(coco, found).truth, pack_rows(found), np.array([[1, 1], [1, 0], [0, 2]], np.int32)
    )
    # Class 1 whole: one of two; class 1 broken: the wrong one comes first; class 2 broken: correct.
    by_pair = [51 / 101, 0.5, 1.0]
    assert joint.ap == pytest.approx(np.mean(by_pair))
    assert joint.replicates[:2] == pytest.approx([np.mean(by_pair)] * 2)
    assert np.isnan(joint.replicates[2])
    assert joint.by_state == [
        {"state": "whole", "objects": 2, "AP": pytest.approx(51 / 101)},
        {"state": "broken", "objects": 2, "AP": pytest.approx(0.75)},
    ]


@settings(max_examples=30)
@given(st.integers(0, 10**6))
def test_joint_ap_equals_ap50_over_pairs_without_unknown_states(seed: int) -> None:
    coco, found = make_coco_case(seed)
    truth = split_rows(coco, found).truth
    joint = compute_joint_ap(truth, pack_rows(found), np.ones((1, 12), np.int32))
    pairs, combined = combine_class_and_state(truth, pack_rows(found))
    expected = read_coco_metrics(evaluate_boxes(pairs.build_coco(), combined))["AP50"]
    if expected is None:
        assert joint.ap is None
    else:
        assert joint.ap == pytest.approx(expected, abs=1e-9)
        assert joint.replicates[0] == pytest.approx(expected, abs=1e-9)
    known = (truth.objects.states > 0) & ~truth.objects.crowds
    assert sum(row["objects"] for row in joint.by_state) == known.sum()


def test_hallucination_by_hand() -> None:
    # Two of three absent objects are detected, one of them above the threshold.
    coco, found = row_of_boxes([(1, 1), (1, 3), (2, 3), (2, 3)], [(0, 1, 0.9), (1, 3, 0.8), (2, 1, 0.3)])
    split = split_rows(coco, found)
    details, replicates, notes = compute_hallucination(
        split, split, np.array([0.5, 0.5]), np.array([[1, 1], [0, 2]], np.int32), 10
    )
    assert details == {
        "absent": 3,
        "detected": 1,
        "rate": pytest.approx(1 / 3),
        "threshold_by_cost": 0.9,
        "cost_ratio": 10,
    }
    assert replicates[0] == pytest.approx(1 / 3)
    assert np.isnan(replicates[1])
    assert notes == {}
    scores = np.eye(3)[[0, 2, 0, 2]]
    metrics = compute_state_metrics(
        split,
        split,
        thresholds=np.array([0.5, 0.2]),
        state_scores=scores,
        weights=np.array([[1, 1]], np.int32),
        cost_ratio=10,
        temperature=0.5,
    )
    calibrated = metrics.details["hallucination"]["threshold_by_cost"]
    assert calibrated == pytest.approx(0.9**2 / (0.9**2 + 0.1**2)), "on the scale that people see"
    assert metrics.details["by_class"] == [
        {"class": "class 1", "state": "whole", "objects": 1, "detected": 1, "correct_state": 1},
        {"class": "class 1", "state": "gone", "objects": 1, "detected": 1, "correct_state": 1},
        {"class": "class 2", "state": "gone", "objects": 2, "detected": 1, "correct_state": 0},
    ]
    assert metrics.details["confusion"] == [[1, 0, 0], [0, 0, 0], [1, 0, 2]]
    assert metrics.notes == {"state broken": "no object is in this state"}


def test_a_detection_of_a_present_object_does_not_count_for_an_absent_one() -> None:
    coco, found = row_of_boxes([(1, 1)], [(0, 1, 0.9)])
    coco["annotations"].append({**coco["annotations"][0], "id": 2, "state": 3})
    assert len(split_rows(coco, found).absent.scores) == 0
    second = found[0].copy()
    second["score"] = 0.8
    assert len(split_rows(coco, [*found, second]).absent.scores) == 1


def test_the_cost_rule_weighs_absent_objects() -> None:
    objects = [(1, 1)] * 4 + [(1, 3)]
    coco, found = row_of_boxes(objects, [(0, 1, 0.9), (1, 1, 0.8), (4, 3, 0.7), (2, 1, 0.6), (3, 1, 0.5)])
    split = split_rows(coco, found)
    assert choose_thresholds(split, "cost", False, 10).overall == 0.8
    assert choose_thresholds(split, "cost", False, 1.5).overall == 0.5
