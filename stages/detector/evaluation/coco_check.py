"""COCO's twelve metrics computed a second time, by pycocotools, which defines them."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detector.core.errors import UserError
from detector.engine.coco_metrics import COCO_METRICS
from detector.engine.detections import Predictions
from detector.engine.ground_truth import GroundTruth
from detector.evaluation.intervals import compute_coco_metrics

TOLERANCE = 1e-6  # of a metric, 0..1
# Images times classes; pycocotools takes about half a minute for so many, and its memory grows with them.
MAX_CHECKED_CELLS = 200_000


def check_coco_metrics(
    truth: GroundTruth, predictions: Predictions, metrics: Mapping[str, float | None], where: str
) -> None:
    """Raise UserError when pycocotools has another value for one of COCO's `metrics` of all images.

    truth: the objects to detect; where it is large, evenly spaced images stand for all. where: what is evaluated, for
    the message.
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


def select_images(truth: GroundTruth, predictions: Predictions) -> tuple[GroundTruth, Predictions]:
    """Evenly spaced images, all if they are few, with their objects and predictions."""
    step = math.ceil(len(truth.images.ids) * len(truth.names.classes) / MAX_CHECKED_CELLS)
    if step <= 1:
        return truth, predictions
    part = truth.select_images(np.arange(len(truth.images.ids)) % step == 0)
    return part, predictions.select(np.isin(predictions.image_ids, part.images.ids))


def compute_with_pycocotools(truth: GroundTruth, predictions: Predictions) -> dict[str, float | None]:
    """The twelve metrics by name, 0..1; None where there is no ground truth (-1 in pycocotools)."""
    entries = {
        "images": [{"id": image_id} for image_id in truth.images.ids.tolist()],
        "categories": [{"id": number, "name": name} for number, name in enumerate(truth.names.classes, 1)],
    }
    # As `COCO.loadRes` does, which refuses an empty list.
    rows: list[dict[str, Any]] = [
        {**row, "id": number, "iscrowd": 0, "area": row["bbox"][2] * row["bbox"][3]}
        for number, row in enumerate(predictions.to_rows(), 1)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco, results = COCO(), COCO()
        coco.dataset = {**entries, "annotations": _list_annotations(truth)}
        results.dataset = {**entries, "annotations": rows}
        coco.createIndex()
        results.createIndex()
        evaluation = COCOeval(coco, results, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    values = zip(COCO_METRICS, evaluation.stats.tolist(), strict=True)
    return {name: None if value < 0 else value for name, value in values}


def _list_annotations(truth: GroundTruth) -> list[dict[str, Any]]:
    objects = truth.objects
    columns: dict[str, NDArray[Any]] = {
        "id": objects.ids,
        "image_id": truth.images.ids[objects.images],
        "category_id": objects.categories,
        "bbox": objects.boxes_xywh,
        "area": objects.areas,
        "iscrowd": objects.crowds.astype(int),
    }
    rows = zip(*(column.tolist() for column in columns.values()), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


def _agree(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) <= TOLERANCE
