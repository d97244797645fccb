"""What detections stand on: as hotcoco's confusion matrix at every threshold, and each kind of mistake by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.engine.dataset import present_objects
from detector.engine.detections import Prediction
from detector.evaluation.error_types import KINDS, confusions, pair
from tests.support.references import confusions_at
from tests.support.report_case import STATES, matches_in, random_case


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 4), st.integers(1, 4), st.floats(0, 1))
def test_confusions_are_hotcocos_at_every_threshold(seed: int, images: int, classes: int, threshold: float) -> None:
    coco, found = random_case(seed, images, classes)
    truth = present_objects(coco)
    if not any(not annotation["iscrowd"] for annotation in truth["annotations"]) or not found:
        return
    matches = matches_in(coco, found)
    pairs = pair(coco, found, matches)
    ours = confusions(pairs, np.full(classes, threshold))
    assert (ours == confusions_at(threshold, truth, found, matches)).all()
    assert len(pairs.scores) == len(matches.at_half().scores)
    assert ours[:, :classes].sum() == (pairs.scores >= threshold).sum()
    assert ours[:classes].sum() >= (~pairs.objects.absent).sum()


def one_image(
    objects: list[tuple[int, int, int]], found: list[tuple[int, int, float, int]]
) -> tuple[Any, list[Prediction]]:
    """Objects (category, left, state) and detections (category, left, score, state) of 20 × 20 pixels."""
    annotations = [
        {"id": number, "image_id": 7, "category_id": category, "bbox": [left, 0, 20, 20], "area": 400, "iscrowd": 0,
         "state": state}
        for number, (category, left, state) in enumerate(objects, 1)
    ]  # fmt: skip
    coco = {"images": [{"id": 7, "width": 400, "height": 100, "file_name": "7.jpg"}], "annotations": annotations,
            "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}], "states": STATES}  # fmt: skip
    return coco, [
        {"image_id": 7, "category_id": c, "bbox": [x, 0, 20, 20], "score": s, "state": state, "state_score": 1.0}
        for c, x, s, state in found
    ]


@pytest.mark.parametrize(
    ("detection", "kind"),
    [
        ((1, 2, 0.5, 1), "right"),
        ((1, 2, 0.5, 2), "state"),
        ((1, 2, 0.5, 0), "right"),  # its state is unknown
        ((2, 2, 0.5, 1), "class"),
        ((1, 12, 0.5, 1), "location"),  # IoU 0.25
        ((2, 12, 0.5, 1), "background"),  # near an object of another class
        ((1, 101, 0.5, 1), "duplicate"),
        ((1, 201, 0.5, 1), "absent"),
        ((2, 201, 0.5, 1), "background"),  # where an absent object of another class would be
        ((1, 300, 0.5, 1), "background"),
    ],
)
def test_each_kind_of_mistake(detection: tuple[int, int, float, int], kind: str) -> None:
    coco, found = one_image([(1, 0, 1), (1, 100, 1), (1, 200, 3)], [(1, 100, 0.9, 1), detection])
    pairs = pair(coco, found, matches_in(coco, found))
    assert KINDS[pairs.kinds[0]] == "right"
    assert KINDS[pairs.kinds[1]] == kind
    stands = kind in ("right", "state", "class")
    assert pairs.partners.tolist() == [1, 0 if stands else -1]
    assert pairs.objects.scores.tolist() == [0.5 if stands else -1, 0.9, -1]
    assert pairs.missed(np.array([0.1, 0.1])).tolist() == [not stands, False, False]
    assert pairs.missed(np.array([0.6, 0.6])).tolist() == [True, False, False]
    assert pairs.missed(np.array([0.95, 0.95])).tolist() == [True, True, False]


def test_thresholds_of_each_class() -> None:
    coco, found = one_image([(1, 0, 1), (2, 100, 1)], [(1, 0, 0.5, 1), (2, 100, 0.5, 1)])
    pairs = pair(coco, found, matches_in(coco, found))
    assert confusions(pairs, np.array([0.4, 0.6])).tolist() == [[1, 0, 0], [0, 0, 1], [0, 0, 0]]


def test_nothing_found_and_nothing_there() -> None:
    coco, _ = one_image([(1, 0, 1)], [])
    pairs = pair(coco, [], matches_in(coco, []))
    assert len(pairs.scores) == 0
    assert confusions(pairs, np.zeros(2)).tolist() == [[0, 0, 1], [0, 0, 0], [0, 0, 0]]
    coco, found = one_image([], [(2, 0, 0.5, 1)])
    pairs = pair(coco, found, matches_in(coco, found))
    assert KINDS[pairs.kinds[0]] == "background"
    assert confusions(pairs, np.zeros(2)).tolist() == [[0, 0, 0], [0, 0, 0], [0, 1, 0]]
