"""Speed of COCO evaluation: hotcoco, as the stages call it, against pycocotools."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from benchmarks.table import Row, check_ratio, format_seconds
from benchmarks.timing import time_pairs
from detector.engine.coco_metrics import evaluate_boxes
from detector.engine.detections import Prediction, pack_rows

TARGET = 20.0
TOLERANCE = 1e-9
WIDTH, HEIGHT = 640, 480
CLASSES = 5
OBJECTS = 8  # per image


def generate_case(images: int, detections: int, classes: int = CLASSES) -> tuple[dict[str, Any], list[Prediction]]:
    """A COCO dictionary and `detections` per image: objects with shifted boxes, a fifth with a random class."""
    rng = np.random.default_rng(0)
    boxes_xywh = random_boxes_xywh(rng, images * OBJECTS)
    labels = rng.integers(1, classes + 1, images * OBJECTS)
    annotations = [
        {
            "id": row + 1,
            "image_id": row // OBJECTS + 1,
            "category_id": label,
            "bbox": box,
            "area": box[2] * box[3],
            "iscrowd": 0,
        }
        for row, (box, label) in enumerate(zip(boxes_xywh.tolist(), labels.tolist(), strict=True))
    ]
    truth = {
        "images": [{"id": k + 1, "width": WIDTH, "height": HEIGHT, "file_name": f"{k}.jpg"} for k in range(images)],
        "annotations": annotations,
        "categories": [{"id": k + 1, "name": str(k)} for k in range(classes)],
    }
    rows = np.repeat(np.arange(images) * OBJECTS, detections) + rng.integers(0, OBJECTS, images * detections)
    shifted = boxes_xywh[rows] + rng.normal(0, 8, (len(rows), 4))
    shifted[:, 2:] = shifted[:, 2:].clip(2)
    is_random = rng.random(len(rows)) < 0.2
    predicted_labels = np.where(is_random, rng.integers(1, classes + 1, len(rows)), labels[rows])
    columns = (rows // OBJECTS + 1, predicted_labels, shifted, rng.random(len(rows)))
    predictions: list[Prediction] = [
        {"image_id": image, "category_id": label, "bbox": box, "score": score, "state_score": 0.0, "state": 0}
        for image, label, box, score in zip(*(column.tolist() for column in columns), strict=True)
    ]
    return truth, predictions


def random_boxes_xywh(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Boxes [count, 4] within the image, of log-uniform size."""
    sides = np.exp(rng.uniform(np.log(8), np.log(240), (count, 2)))
    corners = rng.uniform(0, 1, (count, 2)) * ((WIDTH, HEIGHT) - sides)
    return np.concatenate([corners, sides], axis=1)


def evaluate_with_pycocotools(truth: dict[str, Any], predictions: list[Prediction]) -> list[float]:
    """The 12 metrics of pycocotools."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {**truth, "annotations": list(map(dict, truth["annotations"]))}
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(list(map(dict, predictions))), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(number) for number in evaluation.stats]


def evaluation_row(images: int, detections: int, pairs: int) -> Row:
    """The time from dictionaries to the 12 metrics, which must be equal."""
    truth, predictions = generate_case(images, detections)
    metrics: dict[str, list[float]] = {}

    def ours() -> None:
        metrics["ours"] = list(map(float, evaluate_boxes(truth, pack_rows(predictions)).stats))

    def baseline() -> None:
        metrics["baseline"] = evaluate_with_pycocotools(truth, predictions)

    ours()  # warm up
    times = time_pairs(ours, baseline, pairs)
    largest = max(abs(a - b) for a, b in zip(metrics["ours"], metrics["baseline"], strict=True))
    measured, target, passed = check_ratio(times.ratio, TARGET)
    return Row(
        f"COCO evaluation, {images:,} images × {detections} detections",
        format_seconds(times.ours),
        f"{format_seconds(times.baseline)} pycocotools",
        f"{measured}, 12 metrics {'equal' if largest <= TOLERANCE else f'differ by up to {largest:.1e}'}",
        f"{target}, equal",
        passed and largest <= TOLERANCE,
    )
