"""Whether an ONNX file answers like the model: detections matched by overlap, not by place in the list."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from detector.boxes import pairwise_iou_xyxy
from detector.params import Section


class ExportParams(Section):
    """`export:` of params.yaml, where every key is explained."""

    precision: Literal["fp32", "fp16", "int8"]
    max_ap_drop: float = Field(ge=0, le=1)
    images: int = Field(ge=50)
    box_tolerance: float = Field(gt=0)
    score_tolerance: float = Field(gt=0)


class Answer(NamedTuple):
    """Detections of one image: boxes_xyxy float [N, 4], scores float [N], labels int [N]; zeros pad.

    states int [N], state_scores float [N]: zeros without a state head.
    """

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    states: NDArray[np.int64]
    state_scores: NDArray[np.float32]


class Difference(NamedTuple):
    """The largest differences between two answers.

    box: pixels; score: 0..1, of the class or the state; unmatched: the highest score of a detection that
    only one of them has.
    """

    box: float
    score: float
    unmatched: float


def difference(first: Answer, second: Answer, tie: float) -> Difference:
    """Match each detection to the one of the same class that overlaps it most (IoU above 0.9).

    tie: scores that differ less are taken for equal. Of equal scores at the end of a full list it is
    chance which ones still fit, so such a detection need not be on both sides.
    """
    fits_first, fits_second = _last_score(first) + tie, _last_score(second) + tie
    first, second = _real(first), _real(second)
    if not len(first.scores) or not len(second.scores):
        return Difference(0.0, 0.0, float(max([0.0, *first.scores, *second.scores])))
    overlap = pairwise_iou_xyxy(first.boxes_xyxy.astype(float), second.boxes_xyxy.astype(float))
    overlap = np.where(first.labels[:, None] == second.labels[None, :], overlap, 0.0)
    partner = overlap.argmax(1)
    matched = overlap.max(1) > 0.9
    of_first = first.scores[~matched]
    of_second = second.scores[np.setdiff1d(np.arange(len(second.scores)), partner[matched])]
    alone = [*of_first[of_first > fits_second], *of_second[of_second > fits_first]]
    boxes = np.abs(first.boxes_xyxy[matched] - second.boxes_xyxy[partner[matched]])
    scores = np.maximum(
        np.abs(first.scores[matched] - second.scores[partner[matched]]),
        np.abs(first.state_scores[matched] - second.state_scores[partner[matched]]),
    )
    return Difference(float(boxes.max(initial=0)), float(scores.max(initial=0)), float(max(alone, default=0.0)))


def _last_score(answer: Answer) -> float:
    """The lowest score of a full list; one that is not full had room for everything: -1."""
    return float(answer.scores.min()) if len(answer.labels) and (answer.labels > 0).all() else -1.0


def _real(answer: Answer) -> Answer:
    real = answer.labels > 0
    return Answer._make(column[real] for column in answer)
