"""A small split with random objects, states, detections and images, and the report on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from detector.engine.coco_metrics import read_coco_metrics
from detector.engine.detections import Prediction, pack_rows
from detector.engine.ground_truth import pack_ground_truth
from detector.evaluation.error_types import analyze_errors
from detector.evaluation.matching import Matches
from detector.evaluation.report import ReportInputs, TrainingCurve, gather_report_inputs
from detector.evaluation.report.identity import ModelSize
from tests.support.coco_cases import keep_present_objects
from tests.support.packed import evaluate_rows, match_rows

if TYPE_CHECKING:
    from playwright.sync_api import Page

STATES = [
    {"id": 1, "name": "intact", "present": True},
    {"id": 2, "name": "broken", "present": True},
    {"id": 3, "name": "absent", "present": False},
]
NAMES = ["cup", "<b>jug</b> & lid", "pan"]


def make_random_split(
    seed: int, images: int, classes: int, states: bool = True, crowds: float = 0.1
) -> tuple[dict[str, Any], list[Prediction]]:
    """A COCO dictionary and its detections, most of them near an object; many scores are equal."""
    rng = np.random.default_rng(seed)
    annotations: list[dict[str, Any]] = []
    predictions: list[Prediction] = []
    for image in range(1, images + 1):
        for _ in range(int(rng.integers(0, 7))):
            left, top, width, height = rng.integers([0, 0, 12, 12], [110, 70, 50, 50]).tolist()
            state = int(rng.integers(1, 4)) if states else 0
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": int(rng.integers(1, classes + 1)),
                    "bbox": [left, top, width, height],
                    "area": width * height,
                    "iscrowd": int(rng.random() < crowds),
                    "state": state,
                }
            )
        near = [annotation for annotation in annotations if annotation["image_id"] == image]
        for _ in range(int(rng.integers(0, 12))):
            if near and rng.random() < 0.7:
                target = near[int(rng.integers(len(near)))]
                box = [max(3.0, value + float(rng.integers(-4, 5))) for value in target["bbox"]]
                category = target["category_id"] if rng.random() < 0.8 else int(rng.integers(1, classes + 1))
            else:
                box = [float(value) for value in rng.integers([0, 0, 12, 12], [110, 70, 50, 50])]
                category = int(rng.integers(1, classes + 1))
            state = int(rng.integers(1, 3)) if states else 0
            score = round(float(rng.integers(1, 20)) / 20, 5)
            predictions.append(
                {
                    "image_id": image,
                    "category_id": category,
                    "bbox": box,
                    "score": score,
                    "state": state,
                    "state_score": 0.5,
                }
            )
    coco = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 160, "height": 120} for i in range(1, images + 1)],
        "annotations": annotations,
        "categories": [{"id": i, "name": (NAMES + [f"class {i}"] * classes)[i - 1]} for i in range(1, classes + 1)],
        "states": STATES if states else [],
    }
    return coco, predictions


def match_case(coco: dict[str, Any], predictions: list[Prediction]) -> Matches:
    return match_rows(keep_present_objects(coco), predictions)


def write_images(coco: dict[str, Any], folder: Path) -> None:
    rng = np.random.default_rng(0)
    for image in coco["images"]:
        small = rng.integers(60, 200, (image["height"] // 20, image["width"] // 20, 3), dtype=np.uint8)
        Image.fromarray(small).resize((image["width"], image["height"])).save(folder / image["file_name"])


def make_details(coco: dict[str, Any], matches: Matches) -> dict[str, Any]:
    """Made-up numbers in the form of metrics/evaluate/details.json, with the classes' real names and counts."""
    classes = []
    for index, category in enumerate(coco["categories"]):
        value = 0.9 - 0.1 * ((index * 2) % 5)
        classes.append(
            {
                "class": category["name"],
                "objects": int(matches.object_counts[:, index].sum()),
                "AP": value,
                "AP_low": value - 0.1,
                "AP_high": value + 0.05,
                "AP50": value,
                "AP50_low": None,
                "AP50_high": None,
                "AP_small": None,
                "AP_medium": value,
                "AP_large": None,
                "threshold": 0.5,
                "precision": value,
                "recall": value,
                "F1": value,
                "recall_at_precision_0.9": None,
            }
        )
    names = [state["name"] for state in coco["states"]]
    steps = [step / 299 for step in range(300)]
    states = {
        "names": names,
        "confusion": [[5, 1, 0], [2, 4, 0], [0, 0, 0]],
        "given_boxes": [{"state": name, "objects": 6, "precision": 0.8, "recall": 0.8, "F1": 0.8} for name in names],
        "joint": [{"state": name, "objects": 6, "AP": None} for name in names],
        "roc": {name: [[step, step**0.3] for step in steps] for name in names},
        "precision_recall": {name: [[step, 1 - step**2] for step in steps] for name in names},
        "by_class": [{"class": "cup", "state": "intact", "objects": 3, "detected": 2, "correct_state": 1}],
        "hallucination": {"absent": 5, "detected": 1, "rate": 0.2, "threshold_by_cost": None, "cost_ratio": 10},
    }
    bins = [
        {"low": low / 10, "high": (low + 1) / 10, "confidence": low / 10 + 0.05, "accuracy": low / 12, "count": low}
        for low in range(10)
    ]
    ap_interval = {"AP": 0.5, "AP_low": 0.2, "AP_high": 0.7}
    ap50_interval = {"AP50": None, "AP50_low": None, "AP50_high": None}
    tide_costs = {"class": 0.1, "location": 0.2, "both": 0.0, "duplicate": 0.0, "background": 0.1, "missed": None}
    return {
        "classes": classes,
        "slices": [
            {"by": "size", "slice": "small", "images": 3, "objects": 4, "little_data": True}
            | ap_interval
            | ap50_interval
        ],
        "states": states if names else None,
        "calibration": {"error": 0.1, "error_after": 0.05, "temperature": 1.2, "bins": bins, "calibrated_bins": bins},
        "tide": {**tide_costs, "counts": {"class": 2, "location": 3}},
        "localization": [{"class": "cup", "matched": 3, "mean_IoU": 0.8, "mean_area_error": 0.1, "too_large": 0.5}],
        "notes": {"joint_AP": "no object was found in that state", "tide.missed": "nothing was missed"},
    }


def make_report_inputs(folder: Path, seed: int = 0, images: int = 14) -> ReportInputs:
    """All that a report needs, with pictures in `folder`."""
    coco, predictions = make_random_split(seed, images, len(NAMES))
    write_images(coco, folder)
    matches = match_case(coco, predictions)
    metrics: dict[str, Any] = dict(read_coco_metrics(evaluate_rows(keep_present_objects(coco), predictions)))
    metrics |= {"AP_low": 0.1, "AP_high": 0.6, "threshold": 0.5, "precision": 0.5, "recall": 0.5, "F1": 0.5}
    metrics |= {"joint_AP": None, "tide_class": 0.1}
    issue = {
        "split": "test",
        "file": "1.png",
        "kind": "missing",
        "score": "0.9",
        "class": "cup",
        "state": "",
        "left": "10",
        "top": "10",
        "width": "30",
        "height": "20",
        "annotation": "",
        "suggestion": "cup",
        "reason": "not labeled",
    }
    return gather_report_inputs(
        split="test",
        metrics=metrics,
        details=make_details(coco, matches),
        card={"model": "simple", "classes": NAMES, "recipe": {"lr": 0.001, "freeze": []}, "data": "0123"},
        size=ModelSize(parameters=1_234_567, bytes=5_000_000),
        splits={"test": pack_ground_truth(coco)},
        analysis=analyze_errors(pack_ground_truth(coco), pack_rows(predictions), matches),
        thresholds=np.full(len(NAMES), 0.5),
        gallery_size=4,
        label_issues=[issue] * 25,
        curves=[TrainingCurve("train/loss", [3.0, 2.0, 1.5]), TrainingCurve("val/AP", [0.1, 0.2, 0.3])],
    )


def make_many_class_inputs(folder: Path, classes: int) -> ReportInputs:
    """The same of many classes, without states."""
    coco, predictions = make_random_split(0, 60, classes, states=False)
    write_images(coco, folder)
    matches = match_case(coco, predictions)
    return gather_report_inputs(
        split="test",
        metrics={},
        details=make_details(coco, matches),
        card={},
        size=None,
        splits=dict.fromkeys(("train", "test"), pack_ground_truth(coco)),
        analysis=analyze_errors(pack_ground_truth(coco), pack_rows(predictions), matches),
        thresholds=np.full(classes, 0.3),
        gallery_size=4,
        label_issues=[],
        curves=[],
    )


def set_threshold(page: Page, value: float) -> None:
    """Wait until all that follows the slider has changed."""
    page.locator("#slider-number").fill(str(value))
    page.wait_for_timeout(250)
