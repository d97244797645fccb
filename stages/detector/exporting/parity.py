"""Compare the detections of an ONNX file with the model's: matched by overlap, not by their position in the list."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from detector.core.boxes import area_xyxy, pairwise_iou_xyxy
from detector.engine.detections import Detections


class DetectionDifference(NamedTuple):
    """The largest differences between two sets of detections.

    box: pixels; score: 0..1, of the class or the state; unmatched: the highest score of a detection that is in only
    one of them.
    """

    box: float
    score: float
    unmatched: float


def compute_difference(
    first: Detections, second: Detections, max_detections: int, score_tolerance: float
) -> DetectionDifference:
    """Match the detections of the same class by IoU (above 0.9) and score, one to one, and compare the pairs.

    Boxes without area, which overlap nothing, match by position: each corner within a pixel. max_detections: the
    length of a full list. score_tolerance: scores that differ by less count as equal. Which of several equal scores
    still fit at the end of a full list is arbitrary, so such a detection may be missing from the other list.
    """
    partner, matched = _match(first, second)
    boxes, others = first.boxes_xyxy.astype(float), second.boxes_xyxy.astype(float)
    first_only = first.scores[~matched]
    second_only = second.scores[np.setdiff1d(np.arange(len(second.scores)), partner[matched])]
    first_cutoff = _last_score(first, max_detections) + score_tolerance
    second_cutoff = _last_score(second, max_detections) + score_tolerance
    unmatched = [*first_only[first_only > second_cutoff], *second_only[second_only > first_cutoff]]
    box_differences = np.abs(boxes[matched] - others[partner[matched]])
    score_differences = np.maximum(
        np.abs(first.scores[matched] - second.scores[partner[matched]]),
        np.abs(first.state_scores[matched] - second.state_scores[partner[matched]]),
    )
    return DetectionDifference(
        box=float(box_differences.max(initial=0)),
        score=float(score_differences.max(initial=0)),
        unmatched=float(max(unmatched, default=0.0)),
    )


def count_unmatched(first: Detections, second: Detections) -> int:
    """The detections of both that have no counterpart in the other, matched as in `compute_difference`."""
    _, matched = _match(first, second)
    return int((~matched).sum()) + len(second.scores) - int(matched.sum())


def _match(first: Detections, second: Detections) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The index in `second` of each detection's partner, int64 [N], and whether it has one, bool [N].

    No two have the same partner: of boxes that nearly coincide, those with the nearest positions and scores belong
    together.
    """
    partner = np.zeros(len(first.scores), np.int64)
    matched = np.zeros(len(first.scores), bool)
    boxes, others = first.boxes_xyxy.astype(float), second.boxes_xyxy.astype(float)
    near = np.abs(boxes[:, None] - others[None]).max(axis=2) <= 1
    overlap = np.where(near & (area_xyxy(boxes) == 0)[:, None], 1.0, np.nan_to_num(pairwise_iou_xyxy(boxes, others)))
    overlap = np.where(first.labels[:, None] == second.labels[None, :], overlap, 0.0)
    gap = np.nan_to_num(np.abs(first.scores[:, None] - second.scores[None, :]), nan=1.0)
    rows, columns = linear_sum_assignment(gap - overlap)
    partner[rows], matched[rows] = columns, overlap[rows, columns] > 0.9
    return partner, matched


def _last_score(detections: Detections, max_detections: int) -> float:
    """Return the lowest score of a full list; -1 for a list that is not full, which dropped nothing."""
    return float(detections.scores.min()) if len(detections.scores) >= max_detections else -1.0
