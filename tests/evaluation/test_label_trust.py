"""A detector that knows a class or a state too poorly accuses none of its labels, and says so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from detector.engine.detections import pack_rows
from detector.engine.ground_truth import pack_ground_truth
from detector.evaluation.label_trust import MAX_LISTED, MIN_AP50, MIN_STATE_PRECISION, assess_trust
from tests.support.coco_cases import make_coco_case
from tests.support.packed import find_row_issues

CLASSES = 3


def make_weak_predictions(coco: dict[str, Any], per_image: int, seed: int = 0) -> list[Any]:
    """As after one epoch: many boxes anywhere, all with about the same low score."""
    rng = np.random.default_rng(seed)
    return [
        {
            "image_id": image["id"],
            "category_id": int(rng.integers(1, CLASSES + 1)),
            "bbox": rng.integers([0, 0, 20, 20], [300, 300, 150, 150]).astype(float).tolist(),
            "score": round(float(rng.uniform(0.02, 0.03)), 5),
            "state": 0,
            "state_score": 0.0,
        }
        for image in coco["images"]
        for _ in range(per_image)
    ]


@pytest.mark.parametrize("seed", range(5))
def test_a_detector_after_one_epoch_accuses_nobody(seed: int) -> None:
    coco, _ = make_coco_case(seed, images=12, classes=CLASSES, states=False)
    issues, notes = find_row_issues("train", coco, make_weak_predictions(coco, 50, seed), None)
    assert issues == []
    assert f"AP50 below {MIN_AP50:g}" in notes["label issues on train"]
    assert f"on {CLASSES} classes" in notes["label issues on train"]


def test_a_class_that_it_knows_still_accuses() -> None:
    coco, _ = make_coco_case(3, images=12, classes=CLASSES, states=False)
    known = {"state": 0, "state_score": 0.0, "score": 0.9}
    right = [
        {"image_id": one["image_id"], "category_id": 1, "bbox": [float(value) for value in one["bbox"]], **known}
        for one in coco["annotations"]
        if one["category_id"] == 1
    ]
    bbox = [330.0, 330.0, 60.0, 60.0]
    extra = {"image_id": 1, "category_id": 1, "bbox": bbox, **known}
    weak = [one for one in make_weak_predictions(coco, 30) if one["category_id"] != 1]
    issues, notes = find_row_issues("train", coco, [*right, extra, *weak], None)
    names = {one["id"]: one["name"] for one in coco["categories"]}
    assert {issue.label for issue in issues} == {names[1]}
    assert [issue.bbox for issue in issues if issue.kind == "missing_box"] == [tuple(bbox)]
    assert f"on {CLASSES - 1} classes" in notes["label issues on train"]


def test_a_label_is_accused_once_per_question_even_by_a_weak_detector() -> None:
    """So there are never more accused labels than labels."""
    for seed in range(10):
        coco, predictions = make_coco_case(seed, images=12, classes=CLASSES, detections=40, states=False)
        issues, _ = find_row_issues("val", coco, predictions, None)
        accused = [issue.annotation for issue in issues if issue.kind != "missing_box"]
        assert len(accused) == len(set(accused)) <= len(coco["annotations"])


def test_a_state_that_it_guesses_is_not_suggested() -> None:
    coco, predictions = make_coco_case(1, images=30, classes=1, states=True)
    labels = sorted((one for one in coco["annotations"] if not one["iscrowd"]), key=lambda one: one["image_id"])
    always_first = np.tile([0.9, 0.06, 0.04], (len(labels), 1))
    trust = assess_trust("val", pack_ground_truth(coco), pack_rows(predictions), always_first)
    known = [one["state"] for one in labels if one["state"]]
    assert known.count(1) / len(known) < MIN_STATE_PRECISION
    assert trust.states == set()
    assert "whole" in trust.notes["state issues on val"]
    issues, _ = find_row_issues("val", coco, predictions, always_first)
    assert "wrong_state" not in {issue.kind for issue in issues}


def test_only_some_of_many_weak_classes_are_named() -> None:
    coco, predictions = make_coco_case(0, images=60, classes=30, detections=0, states=False)
    note = assess_trust("val", pack_ground_truth(coco), pack_rows(predictions), None).notes["label issues on val"]
    assert note.count(" 0.00") == MAX_LISTED
    assert note.endswith("…")
