"""Whether an ONNX file answers like the model: detections matched by overlap, not by place in the list."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from pydantic import Field

from detector.core.boxes import area_xyxy, pairwise_iou_xyxy
from detector.core.params import Section
from detector.engine.detections import Detections


class ExportParams(Section):
    """`export:` of params.yaml, where every key is explained."""

    precision: Literal["fp32", "fp16", "int8"]
    max_ap_drop: float = Field(ge=0, le=1)
    images: int = Field(ge=50)
    box_tolerance: float = Field(gt=0)
    score_tolerance: float = Field(gt=0)
    threads: int = Field(ge=0)


class Difference(NamedTuple):
    """The largest differences between two answers.

    box: pixels; score: 0..1, of the class or the state; unmatched: the highest score of a detection that
    only one of them has.
    """

    box: float
    score: float
    unmatched: float


def difference(first: Detections, second: Detections, most: int, tie: float) -> Difference:
    """Match each detection to the one of the same class that overlaps it most (IoU above 0.9).

    Boxes without area, which overlap nothing, match where they lie: each corner within a pixel. most: detections that
    a full list has. tie: scores that differ less are taken for equal. Of equal scores at the end of a full list it is
    chance which ones still fit, so such a detection need not be on both sides.
    """
    if not len(first.scores) or not len(second.scores):
        return Difference(0.0, 0.0, float(max([0.0, *first.scores, *second.scores])))
    boxes, others = first.boxes_xyxy.astype(float), second.boxes_xyxy.astype(float)
    near = np.abs(boxes[:, None] - others[None]).max(axis=2) <= 1
    overlap = np.where(near & (area_xyxy(boxes) == 0)[:, None], 1.0, pairwise_iou_xyxy(boxes, others))
    overlap = np.where(first.labels[:, None] == second.labels[None, :], overlap, 0.0)
    gap = np.abs(first.scores[:, None] - second.scores[None, :])  # which of several boxes without area it is
    partner = (overlap - 1e-3 * np.nan_to_num(gap, nan=1.0)).argmax(1)
    matched = np.take_along_axis(overlap, partner[:, None], 1)[:, 0] > 0.9
    of_first = first.scores[~matched]
    of_second = second.scores[np.setdiff1d(np.arange(len(second.scores)), partner[matched])]
    fits_first, fits_second = _last_score(first, most) + tie, _last_score(second, most) + tie
    alone = [*of_first[of_first > fits_second], *of_second[of_second > fits_first]]
    moved = np.abs(boxes[matched] - others[partner[matched]])
    scores = np.maximum(
        np.abs(first.scores[matched] - second.scores[partner[matched]]),
        np.abs(first.state_scores[matched] - second.state_scores[partner[matched]]),
    )
    return Difference(float(moved.max(initial=0)), float(scores.max(initial=0)), float(max(alone, default=0.0)))


def _last_score(found: Detections, most: int) -> float:
    """The lowest score of a full list; one that is not full had room for everything: -1."""
    return float(found.scores.min()) if len(found.scores) >= most else -1.0
