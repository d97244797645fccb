"""Detections of one image as columns, whatever found them, and as COCO results."""

from __future__ import annotations

from typing import Any, NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

from detector.core.boxes import xyxy_to_xywh

EDGE = 1e-5  # scores are written with 5 digits, so nothing nearer to 0 or 1 is known


class Prediction(TypedDict):
    """One detection in COCO's results format; bbox is [left, top, width, height] in image pixels.

    state: id of its state, 0 without a state head; state_score: how sure the head is.
    """

    image_id: int
    category_id: int
    bbox: list[float]
    score: float
    state: int
    state_score: float


class Detections(NamedTuple):
    """Detections of one image, best first.

    boxes_xyxy float [N, 4] in pixels; scores float [N], 0..1; labels int [N], from 1; states int [N], from 1, and
    state_scores float [N], 0..1: both 0 without a state head.
    """

    boxes_xyxy: NDArray[Any]
    scores: NDArray[np.float32]
    labels: NDArray[np.int64]
    states: NDArray[np.int64]
    state_scores: NDArray[np.float32]

    def chosen(self, places: NDArray[Any]) -> Detections:
        """Some of them, by a mask [N] or by their places."""
        return Detections._make(column[places] for column in self)


def rescaled(scores: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """sigmoid(logit(score) / temperature) for scores in 0..1: their order stays."""
    inside = np.clip(scores, EDGE, 1 - EDGE)
    result: NDArray[np.float64] = 1 / (1 + np.exp(-(np.log(inside) - np.log1p(-inside)) / temperature))
    return result


def coco_results(found: Detections, image_id: int, width: int, height: int) -> list[Prediction]:
    """The detections of an image of width x height pixels as COCO results, boxes clipped to the image.

    Coordinates are rounded to 0.01 pixel and scores to 0.00001: the rounded numbers are what is
    evaluated and what is written.
    """
    boxes_xyxy = found.boxes_xyxy.astype(np.float64).clip(0, [width, height] * 2)
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
            found.labels.tolist(),
            xyxy_to_xywh(boxes_xyxy).tolist(),
            found.scores.tolist(),
            found.states.tolist(),
            found.state_scores.tolist(),
            strict=True,
        )
    ]
