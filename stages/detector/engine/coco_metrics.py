"""COCO metrics, computed by hotcoco: the same values as pycocotools, many times faster."""

from __future__ import annotations

import contextlib
import io
from typing import Any

import numpy as np
from hotcoco import COCO, COCOeval

from detector.engine.detections import Predictions

# In the order of pycocotools' `stats`.
AP_METRICS = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
AR_METRICS = ("AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large")
COCO_METRICS = AP_METRICS + AR_METRICS


def evaluate_boxes(ground_truth: dict[str, Any] | COCO, predictions: Predictions) -> COCOeval:
    """Match `predictions` to `ground_truth`, a COCO dictionary or what was read from one, and accumulate the curves."""
    columns = (predictions.image_ids, predictions.boxes_xywh, predictions.scores, predictions.category_ids)
    rows = np.column_stack(columns).astype(np.float64)  # [D, 7]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = ground_truth if isinstance(ground_truth, COCO) else COCO(ground_truth)
        evaluation = COCOeval(coco, coco.load_res(rows), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def read_coco_metrics(evaluation: COCOeval) -> dict[str, float | None]:
    """The 12 COCO metrics by name, 0..1; None where there is no ground truth (-1 in pycocotools)."""
    return {name: _none_if_negative(value) for name, value in zip(COCO_METRICS, evaluation.stats, strict=True)}


def _none_if_negative(value: float) -> float | None:
    return None if value < 0 else float(value)
