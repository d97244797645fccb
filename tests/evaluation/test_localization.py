"""IoU and area of matched boxes."""

from __future__ import annotations

import numpy as np
import pytest

from detector.engine.detections import Prediction, pack_rows
from detector.engine.ground_truth import pack_ground_truth
from detector.evaluation.localization import bootstrap_mean_iou, compute_mean_iou, pair_boxes, tabulate_localization
from tests.support.coco_cases import make_coco_case
from tests.support.packed import match_rows


def test_by_hand() -> None:
    coco, _ = make_coco_case(0, images=2, classes=2, objects=0)
    boxes = [(1, 1, [0, 0, 100, 100]), (1, 1, [200, 0, 100, 100]), (2, 2, [0, 0, 50, 50])]
    coco["annotations"] = [
        {"id": i, "image_id": image, "category_id": c, "bbox": box, "area": 10_000, "iscrowd": 0, "state": 0}
        for i, (image, c, box) in enumerate(boxes, 1)
    ]
    found: list[Prediction] = [
        {"image_id": image, "category_id": c, "bbox": box, "score": score, "state": 0, "state_score": 0.0}
        for image, c, box, score in [
            (1, 1, [0.0, 0, 100, 80], 0.9),
            (1, 1, [200.0, 0, 100, 125], 0.8),
            (2, 2, [0.0, 0, 50, 50], 0.1),
        ]
    ]
    pairs = pair_boxes(pack_ground_truth(coco), pack_rows(found), match_rows(coco, found), np.array([0.5, 0.5]))
    assert compute_mean_iou(pairs) == pytest.approx(0.8)
    first, second = tabulate_localization(pairs, ["a", "b"])
    assert first == {
        "class": "a",
        "matched": 2,
        "mean_IoU": pytest.approx(0.8),
        "mean_area_error": pytest.approx(0.225),
        "too_large": 0.5,
    }
    assert second == {"class": "b", "matched": 0, "mean_IoU": None, "mean_area_error": None, "too_large": None}
    replicates = bootstrap_mean_iou(pairs, np.array([[1, 1], [2, 0], [0, 2]], np.int32))
    assert replicates[:2] == pytest.approx([0.8, 0.8])
    assert np.isnan(replicates[2])


def test_no_detections() -> None:
    coco, _ = make_coco_case(1)
    pairs = pair_boxes(pack_ground_truth(coco), pack_rows([]), match_rows(coco, []), np.full(3, 0.5))
    assert compute_mean_iou(pairs) is None
    assert [row["matched"] for row in tabulate_localization(pairs, ["a", "b", "c"])] == [0, 0, 0]
