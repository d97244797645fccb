"""Confusion matrices equal hotcoco's at every threshold, and each error type by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.engine.detections import Prediction, pack_rows
from detector.engine.ground_truth import pack_ground_truth
from detector.evaluation.error_types import ERROR_TYPES, analyze_errors, compute_confusion_matrix
from tests.support.coco_cases import keep_present_objects
from tests.support.references import compute_hotcoco_confusion
from tests.support.report_case import STATES, make_random_split, match_case


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 4), st.floats(0, 1))
def test_confusion_matrix_equals_hotcoco_at_every_threshold(
    seed: int, images: int, classes: int, threshold: float
) -> None:
    coco, found = make_random_split(seed, images, classes)
    truth = keep_present_objects(coco)
    if not any(not annotation["iscrowd"] for annotation in truth["annotations"]) or not found:
        return
    matches = match_case(coco, found)
    analysis = analyze_errors(pack_ground_truth(coco), pack_rows(found), matches)
    ours = compute_confusion_matrix(analysis, np.full(classes, threshold))
    assert (ours == compute_hotcoco_confusion(threshold, truth, found, matches)).all()
    assert len(analysis.scores) == len(matches.select_iou50().scores)
    assert ours[:, :classes].sum() == (analysis.scores >= threshold).sum()
    assert ours[:classes].sum() >= (~analysis.objects.absent).sum()


def one_image(
    objects: list[tuple[int, int, int]], found: list[tuple[int, int, float, int]]
) -> tuple[Any, list[Prediction]]:
    """Objects (category, left, state) and detections (category, left, score, state) of 20 × 20 pixels."""
    annotations = [
        {
            "id": number,
            "image_id": 7,
            "category_id": category,
            "bbox": [left, 0, 20, 20],
            "area": 400,
            "iscrowd": 0,
            "state": state,
        }
        for number, (category, left, state) in enumerate(objects, 1)
    ]
    coco = {
        "images": [{"id": 7, "width": 400, "height": 100, "file_name": "7.jpg"}],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "states": STATES,
    }
    return coco, [
        {"image_id": 7, "category_id": c, "bbox": [x, 0, 20, 20], "score": s, "state": state, "state_score": 1.0}
        for c, x, s, state in found
    ]


@pytest.mark.parametrize(
    ("detection", "error_type"),
    [
        ((1, 2, 0.5, 1), "correct"),
        ((1, 2, 0.5, 2), "state"),
        ((1, 2, 0.5, 0), "correct"),  # unknown state
        ((2, 2, 0.5, 1), "class"),
        ((1, 12, 0.5, 1), "localization"),  # IoU 0.25
        ((2, 12, 0.5, 1), "background"),  # near an object of another class
        ((1, 101, 0.5, 1), "duplicate"),
        ((1, 201, 0.5, 1), "absent"),
        ((2, 201, 0.5, 1), "background"),  # on an absent object of another class
        ((1, 300, 0.5, 1), "background"),
    ],
)
def test_each_error_type(detection: tuple[int, int, float, int], error_type: str) -> None:
    coco, found = one_image([(1, 0, 1), (1, 100, 1), (1, 200, 3)], [(1, 100, 0.9, 1), detection])
    analysis = analyze_errors(pack_ground_truth(coco), pack_rows(found), match_case(coco, found))
    assert ERROR_TYPES[analysis.error_types[0]] == "correct"
    assert ERROR_TYPES[analysis.error_types[1]] == error_type
    matched = error_type in ("correct", "state", "class")
    assert analysis.object_indices.tolist() == [1, 0 if matched else -1]
    assert analysis.objects.scores.tolist() == [0.5 if matched else -1, 0.9, -1]
    assert analysis.select_missed(np.array([0.1, 0.1])).tolist() == [not matched, False, False]
    assert analysis.select_missed(np.array([0.6, 0.6])).tolist() == [True, False, False]
    assert analysis.select_missed(np.array([0.95, 0.95])).tolist() == [True, True, False]


def test_thresholds_per_class() -> None:
    coco, found = one_image([(1, 0, 1), (2, 100, 1)], [(1, 0, 0.5, 1), (2, 100, 0.5, 1)])
    analysis = analyze_errors(pack_ground_truth(coco), pack_rows(found), match_case(coco, found))
    assert compute_confusion_matrix(analysis, np.array([0.4, 0.6])).tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]


def test_no_detections_and_no_objects() -> None:
    coco, _ = one_image([(1, 0, 1)], [])
    analysis = analyze_errors(pack_ground_truth(coco), pack_rows([]), match_case(coco, []))
    assert len(analysis.scores) == 0
    assert compute_confusion_matrix(analysis, np.zeros(2)).tolist() == [[0, 0, 1], [0, 0, 0], [0, 0, 0]]
    coco, found = one_image([], [(2, 0, 0.5, 1)])
    analysis = analyze_errors(pack_ground_truth(coco), pack_rows(found), match_case(coco, found))
    assert ERROR_TYPES[analysis.error_types[0]] == "background"
    assert compute_confusion_matrix(analysis, np.zeros(2)).tolist() == [[0, 0, 0], [0, 0, 0], [0, 1, 0]]
