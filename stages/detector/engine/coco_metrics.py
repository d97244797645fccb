"""COCO metrics, computed by hotcoco: the same values as pycocotools, many times faster."""

from __future__ import annotations

import contextlib
import io
from typing import Any, cast

import numpy as np
from hotcoco import COCO, COCOeval
from numpy.typing import NDArray

from detector.engine.detections import Prediction

# In the order of pycocotools' `stats`.
AP_METRICS = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
AR_METRICS = ("AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large")
COCO_METRICS = AP_METRICS + AR_METRICS


def evaluate_boxes(ground_truth: dict[str, Any] | COCO, predictions: list[Prediction]) -> COCOeval:
    """Match `predictions` to `ground_truth`, a COCO dictionary or what was read from one, and accumulate the curves."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = ground_truth if isinstance(ground_truth, COCO) else COCO(ground_truth)
        evaluation = COCOeval(coco, coco.load_res(cast("list[dict[str, Any]]", predictions)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def read_coco_metrics(evaluation: COCOeval) -> dict[str, float | None]:
    """The 12 COCO metrics by name, 0..1; None where there is no ground truth (-1 in pycocotools)."""
    return {name: _none_if_negative(value) for name, value in zip(COCO_METRICS, evaluation.stats, strict=True)}


def read_class_metrics(evaluation: COCOeval, classes: list[str]) -> dict[str, dict[str, float | None]]:
    """AP, AP50 and AP by object size for each class; None where the class has no such object."""
    precision = read_precision_curves(evaluation)
    sizes = ("small", "medium", "large")
    by_size = {name: read_precision_curves(evaluation, size) for size, name in enumerate(sizes, 1)}
    return {
        name: {
            "AP": _mean(precision[:, :, index]),
            "AP50": _mean(precision[0, :, index]),
            **{f"AP_{size}": _mean(values[:, :, index]) for size, values in by_size.items()},
        }
        for index, name in enumerate(classes)
    }


def read_precision_curves(evaluation: COCOeval, size: int = 0) -> NDArray[np.float64]:
    """Precision [10 IoU thresholds 0.5..0.95, 101 recalls 0..1, classes] for objects of one size range.

    size: 0 for all objects; 1, 2, 3 for small, medium, large. -1 where a class has no ground truth.
    """
    assert evaluation.eval is not None
    precision: NDArray[np.float64] = evaluation.eval["precision"][:, :, :, size, -1]
    return precision


def _mean(precision: NDArray[np.float64]) -> float | None:
    valid = precision[precision > -1]
    return float(valid.mean()) if valid.size else None


def _none_if_negative(value: float) -> float | None:
    return None if value < 0 else float(value)
