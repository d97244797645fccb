"""Detections of one image as arrays and as COCO results, independent of the runtime that produced them."""

from __future__ import annotations

from typing import Any, NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

from detector.core.boxes import xyxy_to_xywh

SCORE_STEP = 1e-5  # resolution of written scores, which have 5 decimals


class Prediction(TypedDict):
    """One detection in COCO's results format; bbox is [left, top, width, height] in image pixels.

    state: id of the predicted state, 0 without a state head. state_score: its probability.
    """

    image_id: int
    category_id: int
    bbox: list[float]
    score: float
    state: int
    state_score: float


class Detections(NamedTuple):
    """Detections of one image, best first.

    boxes_xyxy float [N, 4] in pixels. scores float [N], 0..1. labels int [N], from 1. states int [N], from 1, and
    state_scores float [N], 0..1: both 0 without a state head.
    """

    boxes_xyxy: NDArray[Any]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    states: NDArray[np.int64]
    state_scores: NDArray[np.float32]

    def select(self, index: NDArray[Any]) -> Detections:
        """The detections at `index`: a boolean mask [N] or integer positions."""
        return Detections._make(column[index] for column in self)


def rescale_scores(scores: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """sigmoid(logit(score) / temperature) for scores in 0..1; their order is preserved."""
    clipped = np.clip(scores, SCORE_STEP, 1 - SCORE_STEP)
    result: NDArray[np.float64] = 1 / (1 + np.exp(-(np.log(clipped) - np.log1p(-clipped)) / temperature))
    return result


def to_coco_results(detections: Detections, image_id: int, width: int, height: int) -> list[Prediction]:
    """The detections of one image as COCO results, boxes clipped to its `width` x `height` pixels.

    Coordinates are rounded to 0.01 pixel and scores to 0.00001; the rounded values are the ones evaluated and
    written.
    """
    boxes_xyxy = detections.boxes_xyxy.astype(np.float64).clip(0, [width, height] * 2)
    return [
        {
            "image_id": image_id,
            "category_id": label,
            "bbox": [round(value, 2) for value in box],
            "score": round(score, 5),
            "state": state,
            "state_score": round(state_score, 5),
        }
        for label, box, score, state, state_score in zip(
            detections.labels.tolist(),
            xyxy_to_xywh(boxes_xyxy).tolist(),
            detections.scores.tolist(),
            detections.states.tolist(),
            detections.state_scores.tolist(),
            strict=True,
        )
    ]
