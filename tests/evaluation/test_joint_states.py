"""States end to end, and detections of what is absent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.engine.coco_metrics import coco_numbers, evaluate_boxes
from detector.engine.detections import Prediction
from detector.evaluation.joint_states import joint_ap, pairs_as_classes
from detector.evaluation.matched_split import judge, thresholds_on
from detector.evaluation.state_measures import hallucinated, state_measures
from tests.support.coco_cases import coco_case


def row_of_boxes(objects: list[tuple[int, int]], found: list[tuple[int, int, float]]) -> Any:
    """One image; (class, state) of objects 50 pixels apart; (place, state, score) of detections of the right class."""
    coco, _ = coco_case(0, images=2, objects=0, classes=2)
    coco["annotations"] = [
        {"id": n + 1, "image_id": 1, "category_id": c, "bbox": [n * 50, 0, 40, 40], "area": 1600, "iscrowd": 0,
         "state": s} for n, (c, s) in enumerate(objects)
    ]  # fmt: skip
    predictions: list[Prediction] = [
        {"image_id": 1, "category_id": objects[n][0], "bbox": [n * 50.0, 0, 40, 40], "score": score, "state": s,
         "state_score": 1.0} for n, s, score in found
    ]  # fmt: skip
    return coco, predictions


def test_joint_by_hand() -> None:
    coco, found = row_of_boxes([(1, 1), (1, 1), (1, 2), (2, 2)], [(0, 1, 0.9), (1, 2, 0.8), (2, 2, 0.7), (3, 2, 0.6)])
    joint = joint_ap(judge(coco, found).truth, found, np.array([[1, 1], [1, 0], [0, 2]], np.int32))
    # Class 1 whole: one of two; class 1 broken: the wrong one comes first; class 2 broken: right.
    by_pair = [51 / 101, 0.5, 1.0]
    assert joint.ap == pytest.approx(np.mean(by_pair))
    assert joint.samples[:2] == pytest.approx([np.mean(by_pair)] * 2)
    assert np.isnan(joint.samples[2])
    assert joint.of_state == [
        {"state": "whole", "objects": 2, "AP": pytest.approx(51 / 101)},
        {"state": "broken", "objects": 2, "AP": pytest.approx(0.75)},
    ]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_joint_ap_is_ap50_of_pairs_and_never_of_the_unknown(seed: int) -> None:
    coco, found = coco_case(seed)
    truth = judge(coco, found).truth
    joint = joint_ap(truth, found, np.ones((1, 12), np.int32))
    expected = coco_numbers(evaluate_boxes(*pairs_as_classes(truth, found)))["AP50"]
    if expected is None:
        assert joint.ap is None
    else:
        assert joint.ap == pytest.approx(expected, abs=1e-9)
        assert joint.samples[0] == pytest.approx(expected, abs=1e-9)
    known = sum(a["state"] > 0 and not a["iscrowd"] for a in truth["annotations"])
    assert sum(row["objects"] for row in joint.of_state) == known


def test_hallucination_by_hand() -> None:
    # Two absent ones found, one above the threshold; one not found.
    coco, found = row_of_boxes([(1, 1), (1, 3), (2, 3), (2, 3)], [(0, 1, 0.9), (1, 3, 0.8), (2, 1, 0.3)])
    judged = judge(coco, found)
    details, samples, notes = hallucinated(
        judged, judged, np.array([0.5, 0.5]), np.array([[1, 1], [0, 2]], np.int32), 10
    )
    assert details == {
        "absent": 3, "found": 1, "share": pytest.approx(1 / 3), "threshold_by_cost": 0.9, "cost_ratio": 10
    }  # fmt: skip
    assert samples[0] == pytest.approx(1 / 3)
    assert np.isnan(samples[1])
    assert notes == {}
    scores = np.eye(3)[[0, 2, 0, 2]]
    measures = state_measures(judged, judged, np.array([0.5, 0.2]), scores, np.array([[1, 1]], np.int32), 10)
    assert measures.details["by_class"] == [
        {"class": "class 1", "state": "whole", "objects": 1, "found": 1, "right": 1},
        {"class": "class 1", "state": "gone", "objects": 1, "found": 1, "right": 1},
        {"class": "class 2", "state": "gone", "objects": 2, "found": 1, "right": 0},
    ]
    assert measures.details["confusion"] == [[1, 0, 0], [0, 0, 0], [1, 0, 2]]
    assert measures.notes == {"state broken": "there is no object in it"}


def test_a_detection_of_a_present_object_invents_no_absent_one() -> None:
    coco, found = row_of_boxes([(1, 1)], [(0, 1, 0.9)])
    coco["annotations"].append({**coco["annotations"][0], "id": 2, "state": 3})
    assert len(judge(coco, found).absent.scores) == 0
    assert len(judge(coco, [*found, {**found[0], "score": 0.8}]).absent.scores) == 1


def test_cost_weighs_the_absent() -> None:
    objects = [(1, 1)] * 4 + [(1, 3)]
    coco, found = row_of_boxes(objects, [(0, 1, 0.9), (1, 1, 0.8), (4, 3, 0.7), (2, 1, 0.6), (3, 1, 0.5)])
    judged = judge(coco, found)
    assert thresholds_on(judged, "cost", False, 10).overall == 0.8
    assert thresholds_on(judged, "cost", False, 1.5).overall == 0.5
