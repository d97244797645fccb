"""The COCO numbers, computed by hotcoco (equal to pycocotools', many times faster)."""

from __future__ import annotations

import contextlib
import io
from typing import Any, cast

import numpy as np
from hotcoco import COCO, COCOeval
from numpy.typing import NDArray

from detector.engine.detections import Prediction

# In the order of pycocotools' `stats`.
NUMBERS = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large",
           "AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large")  # fmt: skip


def evaluate_boxes(truth: dict[str, Any], predictions: list[Prediction]) -> COCOeval:
    """Match and accumulate `predictions` against the COCO dictionary `truth`."""
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = COCO(truth)
        evaluation = COCOeval(ground_truth, ground_truth.load_res(cast("list[dict[str, Any]]", predictions)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def coco_numbers(evaluation: COCOeval) -> dict[str, float | None]:
    """The 12 numbers by name, 0..1; None where there is no ground truth to judge by (pycocotools' -1)."""
    return {name: _or_none(value) for name, value in zip(NUMBERS, evaluation.stats, strict=True)}


def class_numbers(evaluation: COCOeval, classes: list[str]) -> dict[str, dict[str, float | None]]:
    """AP, AP50 and AP by size of each class; None where it has no such object."""
    precision = precisions(evaluation)
    by_size = {size: precisions(evaluation, place) for place, size in enumerate(("small", "medium", "large"), 1)}
    return {
        name: {
            "AP": _mean(precision[:, :, index]),
            "AP50": _mean(precision[0, :, index]),
            **{f"AP_{size}": _mean(values[:, :, index]) for size, values in by_size.items()},
        }
        for index, name in enumerate(classes)
    }


def precisions(evaluation: COCOeval, size: int = 0) -> NDArray[np.float64]:
    """Precision [10 IoUs from 0.5 to 0.95, 101 recalls from 0 to 1, class] for objects of any size.

    size: 0, or 1 to 3 for small, medium and large objects. -1 where a class has no ground truth.
    """
    assert evaluation.eval is not None
    precision: NDArray[np.float64] = evaluation.eval["precision"][:, :, :, size, -1]
    return precision


def _mean(precision: NDArray[np.float64]) -> float | None:
    valid = precision[precision > -1]
    return float(valid.mean()) if valid.size else None


def _or_none(value: float) -> float | None:
    return None if value < 0 else float(value)
