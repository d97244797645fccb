"""COCO metrics against pycocotools, on random datasets."""

from __future__ import annotations

import contextlib
import io
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detector.engine.coco_metrics import COCO_METRICS, read_coco_metrics
from detector.engine.detections import Prediction, pack_rows
from detector.engine.ground_truth import pack_ground_truth
from detector.evaluation.intervals import compute_coco_metrics
from tests.support.packed import evaluate_rows


def random_case(seed: int, images: int, classes: int, detections: int) -> tuple[dict[str, Any], list[Prediction]]:
    """Ground truth with crowds and objects of all sizes; predictions mostly near it; tied scores."""
    random = np.random.default_rng(seed)
    annotations: list[dict[str, Any]] = []
    predictions: list[Prediction] = []
    for image in range(1, images + 1):
        for _ in range(int(random.integers(0, 6))):
            width, height = random.integers(4, 150, 2).tolist()
            left, top = random.integers(0, 200, 2).tolist()
            category = int(random.integers(1, classes + 1))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": category,
                    "area": width * height,
                    "bbox": [left, top, width, height],
                    "iscrowd": int(random.random() < 0.1),
                    "state": 0,
                }
            )
        near = [a for a in annotations if a["image_id"] == image]
        for _ in range(int(random.integers(0, detections))):
            base = near[int(random.integers(len(near)))]["bbox"] if near else [10, 10, 50, 50]
            box = np.maximum(1, np.array(base) + random.integers(-8, 9, 4))
            predictions.append(
                {
                    "image_id": image,
                    "category_id": int(random.integers(1, classes + 1)),
                    "bbox": box.astype(float).tolist(),
                    "score": round(float(random.random()), 2),
                    "state": 0,
                    "state_score": 0.0,
                }
            )
    ground_truth = {
        "images": [{"id": i, "width": 400, "height": 400, "file_name": f"{i}.jpg"} for i in range(1, images + 1)],
        "annotations": annotations,
        "categories": [{"id": c, "name": f"class {c}"} for c in range(1, classes + 1)],
        "states": [],
    }
    return ground_truth, predictions


def evaluate_with_pycocotools(ground_truth: dict[str, Any], predictions: list[Prediction]) -> Any:
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = json.loads(json.dumps(ground_truth))
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes([dict(p) for p in predictions]), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


@settings(max_examples=150)
@given(st.integers(0, 10**6), st.integers(1, 8), st.integers(1, 4), st.sampled_from([3, 12, 130]))
def test_metrics_equal_pycocotools(seed: int, images: int, classes: int, detections: int) -> None:
    ground_truth, predictions = random_case(seed, images, classes, detections)
    if not predictions:
        return
    expected = evaluate_with_pycocotools(ground_truth, predictions)
    evaluation = evaluate_rows(ground_truth, predictions)
    for name, value in zip(COCO_METRICS, expected.stats, strict=True):
        metric = read_coco_metrics(evaluation)[name]
        assert metric is None if value < 0 else metric == pytest.approx(value, abs=1e-9), name
    assert compute_coco_metrics(pack_ground_truth(ground_truth), pack_rows(predictions)) == pytest.approx(
        read_coco_metrics(evaluation), abs=1e-9
    )


def test_metrics_are_zero_without_predictions_and_none_without_ground_truth() -> None:
    ground_truth, _ = random_case(0, 4, 2, 3)
    assert read_coco_metrics(evaluate_rows(ground_truth, []))["AP"] == 0
    _, predictions = random_case(0, 4, 2, 12)
    empty = {**ground_truth, "annotations": []}
    assert set(read_coco_metrics(evaluate_rows(empty, predictions)).values()) == {None}
