"""Random objects and detections in COCO's format, and their AP by pycocotools."""

from __future__ import annotations

import contextlib
import copy
import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detector.engine.detections import Prediction


def make_random_case(
    seed: int, images: int, classes: int, detections: int, ties: bool = True
) -> tuple[dict[str, Any], list[Prediction]]:
    """Crowds, all sizes, images without objects or detections, and boxes mostly near an object.

    Every third case has no object of the last of several classes. detections: maximum per image.
    """
    random = np.random.default_rng(seed)
    with_objects = classes - (classes > 1 and seed % 3 == 0)
    annotations: list[dict[str, Any]] = []
    predictions: list[Prediction] = []
    for image in range(1, images + 1):
        start = len(annotations)
        for _ in range(int(random.integers(0, 7))):
            width, height = random.integers(4, 150, 2).tolist()
            left, top = random.integers(0, 200, 2).tolist()
            category = int(random.integers(with_objects)) + 1
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": category,
                    "area": width * height,
                    "bbox": [left, top, width, height],
                    "iscrowd": int(random.random() < 0.15),
                    "state": 0,
                }
            )
        near = annotations[start:]
        for _ in range(int(random.integers(0, detections + 1))):
            fallback: dict[str, Any] = {"category_id": 1, "bbox": [10, 10, 50, 50]}
            base = near[int(random.integers(len(near)))] if near else fallback
            same_class = random.random() < 0.7
            box = np.maximum(1, np.array(base["bbox"]) + random.integers(-8, 9, 4))
            score = random.random()
            other = int(random.integers(classes)) + 1
            predictions.append(
                {
                    "image_id": image,
                    "category_id": base["category_id"] if same_class else other,
                    "bbox": box.astype(float).tolist(),
                    "score": round(float(score), 1) if ties else float(score),
                    "state": 0,
                    "state_score": 0.0,
                }
            )
    truth = {
        "images": [{"id": i, "width": 400, "height": 400, "file_name": f"{i}.jpg"} for i in range(1, images + 1)],
        "annotations": annotations,
        "categories": [{"id": number, "name": f"class {number}"} for number in range(1, classes + 1)],
        "states": [],
    }
    return truth, predictions


def repeat_images(
    truth: dict[str, Any], predictions: list[Prediction], weights: NDArray[np.int32]
) -> tuple[dict[str, Any], list[Prediction]]:
    """The dataset with image i repeated weights[i] times, copies next to each other; weights int [N]."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    copies: list[Prediction] = []
    for image, count in zip(truth["images"], weights.tolist(), strict=True):
        for _ in range(count):
            images.append({**image, "id": len(images) + 1})
            for annotation in truth["annotations"]:
                if annotation["image_id"] == image["id"]:
                    number = {"id": len(annotations) + 1, "image_id": len(images)}
                    annotations.append(annotation | number)
            for prediction in predictions:
                if prediction["image_id"] == image["id"]:
                    copies.append({**prediction, "image_id": len(images)})
    return {**truth, "images": images, "annotations": annotations}, copies


def compute_pycocotools_ap(truth: dict[str, Any], predictions: list[Prediction]) -> NDArray[np.float64]:
    """pycocotools' AP [10, C] for objects of any size; NaN for a class without objects."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco, found = COCO(), COCO()
        coco.dataset = copy.deepcopy(truth)
        coco.createIndex()
        if predictions:
            found = coco.loadRes([dict(prediction) for prediction in predictions])
        else:
            found.dataset = {**coco.dataset, "annotations": []}
            found.createIndex()
        evaluation = COCOeval(coco, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, -1]  # [10, 101, C]
    mean: NDArray[np.float64] = np.where(precision[:, 0] < 0, np.nan, precision.mean(axis=1))
    return mean
