"""COCO's twelve metrics computed a second time, by pycocotools, which defines them."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detector.core.errors import UserError
from detector.engine.coco_metrics import COCO_METRICS
from detector.engine.detections import Predictions
from detector.evaluation.intervals import compute_coco_metrics

TOLERANCE = 1e-6  # of a metric, 0..1
# Images times classes; pycocotools takes about half a minute for so many, and its memory grows with them.
MAX_CHECKED_CELLS = 200_000


def check_coco_metrics(
    truth: dict[str, Any], predictions: Predictions, metrics: Mapping[str, float | None], where: str
) -> None:
    """Raise UserError when pycocotools has another value for one of COCO's `metrics` of all images.

    truth: a COCO dictionary of the objects to detect; where it is large, evenly spaced images stand for all.
    where: what is evaluated, for the message. Nothing given is changed.
    """
    images, chosen = select_images(truth, predictions)
    ours = metrics if images is truth else compute_coco_metrics(images, chosen)
    theirs = compute_with_pycocotools(images, chosen)
    different = [name for name in COCO_METRICS if not _agree(ours[name], theirs[name])]
    if different:
        values = "; ".join(f"{name}: {ours[name]} by us, {theirs[name]} by pycocotools" for name in different)
        raise UserError(
            f"{where}: pycocotools does not agree with us on COCO's metrics, so nothing is written ({values}); one of "
            "the two has a bug: install the versions of requirements.txt"
        )


def select_images(truth: dict[str, Any], predictions: Predictions) -> tuple[dict[str, Any], Predictions]:
    """Evenly spaced images, all if they are few, with their objects and predictions."""
    step = math.ceil(len(truth["images"]) * len(truth["categories"]) / MAX_CHECKED_CELLS)
    if step <= 1:
        return truth, predictions
    images = truth["images"][::step]
    kept = {image["id"] for image in images}
    annotations = [annotation for annotation in truth["annotations"] if annotation["image_id"] in kept]
    chosen = predictions.select(np.isin(predictions.image_ids, list(kept)))
    return {**truth, "images": images, "annotations": annotations}, chosen


def compute_with_pycocotools(truth: dict[str, Any], predictions: Predictions) -> dict[str, float | None]:
    """The twelve metrics by name, 0..1; None where there is no ground truth (-1 in pycocotools).

    pycocotools adds keys to what it gets, so it gets copies.
    """
    # As `COCO.loadRes` does, which refuses an empty list.
    rows: list[dict[str, Any]] = [
        {**row, "id": number, "iscrowd": 0, "area": row["bbox"][2] * row["bbox"][3]}
        for number, row in enumerate(predictions.to_rows(), 1)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco, results = COCO(), COCO()
        coco.dataset = {**truth, "annotations": [dict(annotation) for annotation in truth["annotations"]]}
        results.dataset = {**truth, "annotations": rows}
        coco.createIndex()
        results.createIndex()
        evaluation = COCOeval(coco, results, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    values = zip(COCO_METRICS, evaluation.stats.tolist(), strict=True)
    return {name: None if value < 0 else value for name, value in values}


def _agree(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) <= TOLERANCE
