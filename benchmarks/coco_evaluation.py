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
from detector.engine.dataset import LabelNames
from detector.engine.detections import BOX_DECIMALS, SCORE_DECIMALS, Prediction, Predictions, pack_columns, pack_rows
from detector.engine.ground_truth import GroundTruth, ImageColumns, ObjectColumns

TARGET = 20.0
TOLERANCE = 1e-9
WIDTH, HEIGHT = 640, 480
SIZE = np.array([HEIGHT, WIDTH], np.int32)
CLASSES = 5
OBJECTS = 8  # per image


def generate_case(images: int, detections: int, classes: int = CLASSES) -> tuple[GroundTruth, Predictions]:
    """Images and `detections` per image: objects with shifted boxes, a fifth with a random class, rounded as ours."""
    rng = np.random.default_rng(0)
    count = images * OBJECTS
    boxes_xywh = random_boxes_xywh(rng, count)
    labels = rng.integers(1, classes + 1, count).astype(np.int32)
    ids = np.arange(1, images + 1)
    truth = GroundTruth(
        LabelNames([str(k) for k in range(classes)], [], []),
        ImageColumns(ids, ids.astype(np.str_), np.full(images, ""), np.tile(SIZE, (images, 1)), {}, {}),
        ObjectColumns(
            np.arange(1, count + 1),
            np.repeat(np.arange(images, dtype=np.int32), OBJECTS),
            labels,
            np.zeros(count, np.int32),
            np.zeros(count, bool),
            boxes_xywh,
            boxes_xywh[:, 2] * boxes_xywh[:, 3],
        ),
    )
    rows = np.repeat(np.arange(images) * OBJECTS, detections) + rng.integers(0, OBJECTS, images * detections)
    shifted = boxes_xywh[rows] + rng.normal(0, 8, (len(rows), 4))
    shifted[:, 2:] = shifted[:, 2:].clip(2)
    is_random = rng.random(len(rows)) < 0.2
    predicted_labels = np.where(is_random, rng.integers(1, classes + 1, len(rows)), labels[rows])
    predictions = pack_columns(
        rows // OBJECTS + 1,
        predicted_labels,
        shifted.round(BOX_DECIMALS),
        rng.random(len(rows)).round(SCORE_DECIMALS),
        np.zeros(len(rows), np.int16),
        np.zeros(len(rows)),
    )
    return truth, predictions


def random_boxes_xywh(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Boxes [count, 4] within the image, of log-uniform size."""
    sides = np.exp(rng.uniform(np.log(8), np.log(240), (count, 2)))
    corners = rng.uniform(0, 1, (count, 2)) * ((WIDTH, HEIGHT) - sides)
    return np.concatenate([corners, sides], axis=1)


def build_dictionary(truth: GroundTruth) -> dict[str, Any]:
    """What a COCO file has of the ground truth."""
    objects = truth.objects
    columns = (objects.ids, truth.images.ids[objects.images], objects.categories, objects.boxes_xywh, objects.areas)
    return {
        "images": [{"id": image_id} for image_id in truth.images.ids.tolist()],
        "annotations": [
            {"id": number, "image_id": image, "category_id": label, "bbox": box, "area": area, "iscrowd": 0}
            for number, image, label, box, area in zip(*(column.tolist() for column in columns), strict=True)
        ],
        "categories": [{"id": number, "name": name} for number, name in enumerate(truth.names.classes, 1)],
    }


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
    columns, found = generate_case(images, detections)
    truth, predictions = build_dictionary(columns), list(found.to_rows())
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
