"""IoU and area of matched pairs."""

from __future__ import annotations

import numpy as np
import pytest

from detector.engine.coco_metrics import evaluate_boxes
from detector.engine.detections import Prediction
from detector.evaluation.localization import localization_rows, mean_iou, mean_ious_of_draws, pairs_of
from detector.evaluation.matching import matches_of
from tests.support.coco_cases import coco_case


def test_by_hand() -> None:
    coco, _ = coco_case(0, images=2, classes=2, objects=0)
    boxes = [(1, 1, [0, 0, 100, 100]), (1, 1, [200, 0, 100, 100]), (2, 2, [0, 0, 50, 50])]
    coco["annotations"] = [
        {"id": i, "image_id": image, "category_id": c, "bbox": box, "area": 10_000, "iscrowd": 0, "state": 0}
        for i, (image, c, box) in enumerate(boxes, 1)
    ]
    found: list[Prediction] = [
        {"image_id": image, "category_id": c, "bbox": box, "score": score, "state": 0, "state_score": 0.0}
        for image, c, box, score in [
            (1, 1, [0.0, 0, 100, 80], 0.9), (1, 1, [200.0, 0, 100, 125], 0.8), (2, 2, [0.0, 0, 50, 50], 0.1)
        ]
    ]  # fmt: skip
    pairs = pairs_of(coco, found, matches_of(evaluate_boxes(coco, found)), np.array([0.5, 0.5]))
    assert mean_iou(pairs) == pytest.approx(0.8)
    first, second = localization_rows(pairs, ["a", "b"])
    assert first == {
        "class": "a", "matched": 2, "mean_IoU": pytest.approx(0.8), "mean_area_error": pytest.approx(0.225),
        "larger": 0.5,
    }  # fmt: skip
    assert second == {"class": "b", "matched": 0, "mean_IoU": None, "mean_area_error": None, "larger": None}
    samples = mean_ious_of_draws(pairs, np.array([[1, 1], [2, 0], [0, 2]], np.int32))
    assert samples[:2] == pytest.approx([0.8, 0.8])
    assert np.isnan(samples[2])


def test_nothing_found() -> None:
    coco, _ = coco_case(1)
    pairs = pairs_of(coco, [], matches_of(evaluate_boxes(coco, [])), np.full(3, 0.5))
    assert mean_iou(pairs) is None
    assert [row["matched"] for row in localization_rows(pairs, ["a", "b", "c"])] == [0, 0, 0]
