"""Small random datasets with states, and detections near their objects."""

from __future__ import annotations

from typing import Any

import numpy as np

from detector.engine.detections import Prediction

STATES = [
    {"id": 1, "name": "whole", "present": True},
    {"id": 2, "name": "broken", "present": True},
    {"id": 3, "name": "gone", "present": False},
]


def keep_present_objects(coco: dict[str, Any]) -> dict[str, Any]:
    """The COCO dictionary without the objects in an absent state."""
    absent = {state["id"] for state in coco["states"] if not state["present"]}
    kept = [annotation for annotation in coco["annotations"] if annotation["state"] not in absent]
    return {**coco, "annotations": kept}


def make_coco_case(
    seed: int, images: int = 12, classes: int = 3, objects: int = 5, detections: int = 8, states: bool = True
) -> tuple[dict[str, Any], list[Prediction]]:
    """Up to `objects` objects and `detections` detections per 400 x 400 image, with tied scores."""
    random = np.random.default_rng(seed)
    annotations: list[dict[str, Any]] = []
    predictions: list[Prediction] = []
    for image in range(1, images + 1):
        near: list[dict[str, Any]] = []
        for _ in range(int(random.integers(0, objects + 1))):
            width, height = random.integers(8, 150, 2).tolist()
            left, top = random.integers(0, 240, 2).tolist()
            near.append(
                {
                    "id": len(annotations) + len(near) + 1,
                    "image_id": image,
                    "area": width * height,
                    "category_id": int(random.integers(1, classes + 1)),
                    "bbox": [left, top, width, height],
                    "iscrowd": int(random.random() < 0.1),
                    "state": int(random.integers(0, 4)) if states else 0,
                }
            )
        annotations += near
        for _ in range(int(random.integers(0, detections + 1))):
            fallback: dict[str, Any] = {"bbox": [10, 10, 50, 50], "category_id": 1}
            base = near[int(random.integers(len(near)))] if near else fallback
            box = np.array(base["bbox"]) + random.integers(-6, 7, 4)
            category = base["category_id"] if random.random() < 0.8 else int(random.integers(1, classes + 1))
            predictions.append(
                {
                    "image_id": image,
                    "category_id": category,
                    "bbox": np.maximum(1, box).astype(float).tolist(),
                    "score": round(float(random.uniform(0.01, 1)), 2),
                    "state": int(random.integers(1, 4)) if states else 0,
                    "state_score": 0.5,
                }
            )
    coco = {
        "images": [{"id": i, "width": 400, "height": 400, "file_name": f"{i}.jpg"} for i in range(1, images + 1)],
        "annotations": annotations,
        "categories": [{"id": c, "name": f"class {c}"} for c in range(1, classes + 1)],
        "states": STATES if states else [],
    }
    return coco, predictions
