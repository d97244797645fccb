"""Detections as arrays and as COCO results, independent of the runtime that produced them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

from detector.core.boxes import xyxy_to_xywh

BOX_DECIMALS, SCORE_DECIMALS = 2, 5  # of what is evaluated and written
SCORE_STEP = 10**-SCORE_DECIMALS
COLUMNS = ("image_ids", "category_ids", "boxes_xywh", "scores", "states", "state_scores")  # of `Predictions`
ROWS_AT_ONCE = 100_000  # as dictionaries, each of about 550 bytes


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


@dataclass(frozen=True)
class Predictions:
    """Detections of many images as columns [D] of 38 bytes a row; each row is one `Prediction`.

    image_ids int64, category_ids int32, states int16. packed_boxes [D, 4], packed_scores and packed_state_scores:
    float32, if rounding restores every value from it, as those of this repository's detectors; otherwise float64.
    """

    image_ids: NDArray[np.int64]
    category_ids: NDArray[np.int32]
    packed_boxes: NDArray[np.floating[Any]]
    packed_scores: NDArray[np.floating[Any]]
    states: NDArray[np.int16]
    packed_state_scores: NDArray[np.floating[Any]]

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def boxes_xywh(self) -> NDArray[np.float64]:
        """Left, top, width, height in image pixels [D, 4]."""
        return _unpack(self.packed_boxes, BOX_DECIMALS)

    @property
    def scores(self) -> NDArray[np.float64]:
        """Scores [D], 0..1."""
        return _unpack(self.packed_scores, SCORE_DECIMALS)

    @property
    def state_scores(self) -> NDArray[np.float64]:
        """Probabilities [D] of the states, 0..1."""
        return _unpack(self.packed_state_scores, SCORE_DECIMALS)

    def select(self, index: NDArray[Any] | slice) -> Predictions:
        """The rows at `index`: a boolean mask [D], integer positions or a slice."""
        return Predictions(*(getattr(self, field.name)[index] for field in fields(self)))

    def to_rows(self) -> Iterator[Prediction]:
        """One dictionary per row."""
        for start in range(0, len(self), ROWS_AT_ONCE):
            part = self.select(slice(start, start + ROWS_AT_ONCE))
            columns = [getattr(part, name).tolist() for name in COLUMNS]
            for image_id, category_id, box, score, state, state_score in zip(*columns, strict=True):
                yield {
                    "image_id": image_id,
                    "category_id": category_id,
                    "bbox": box,
                    "score": score,
                    "state": state,
                    "state_score": state_score,
                }


def pack_rows(rows: Sequence[Mapping[str, Any]]) -> Predictions:
    """COCO results as columns; the states may be missing."""
    boxes = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)
    return pack_columns(
        np.array([row["image_id"] for row in rows], np.int64),
        np.array([row["category_id"] for row in rows], np.int64),
        boxes,
        np.array([row["score"] for row in rows], np.float64),
        np.array([row.get("state", 0) for row in rows], np.int64),
        np.array([row.get("state_score", 0.0) for row in rows], np.float64),
    )


def pack_columns(
    image_ids: NDArray[np.int64],
    category_ids: NDArray[np.integer[Any]],
    boxes_xywh: NDArray[np.float64],
    scores: NDArray[np.float64],
    states: NDArray[np.integer[Any]],
    state_scores: NDArray[np.float64],
) -> Predictions:
    """Columns [D], boxes [D, 4], stored in fewer bytes."""
    return Predictions(
        image_ids,
        category_ids.astype(np.int32),
        _pack(boxes_xywh, BOX_DECIMALS),
        _pack(scores, SCORE_DECIMALS),
        states.astype(np.int16),
        _pack(state_scores, SCORE_DECIMALS),
    )


def concatenate(parts: Sequence[Predictions]) -> Predictions:
    """All rows of the parts, in their order."""
    if not parts:
        return pack_rows([])
    return pack_columns(*(np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS))


def _pack(values: NDArray[np.float64], decimals: int) -> NDArray[np.floating[Any]]:
    packed = values.astype(np.float32)
    return packed if np.array_equal(_unpack(packed, decimals), values) else values


def _unpack(values: NDArray[np.floating[Any]], decimals: int) -> NDArray[np.float64]:
    return values.astype(np.float64).round(decimals) if values.dtype == np.float32 else values.astype(np.float64)


def rescale_scores(scores: NDArray[np.float64], temperature: float) -> NDArray[np.float64]:
    """sigmoid(logit(score) / temperature) for scores in 0..1; their order is preserved."""
    clipped = np.clip(scores, SCORE_STEP, 1 - SCORE_STEP)
    result: NDArray[np.float64] = 1 / (1 + np.exp(-(np.log(clipped) - np.log1p(-clipped)) / temperature))
    return result


def round_detections(detections: Detections, image_id: int, width: int, height: int) -> Predictions:
    """The detections of one image, boxes clipped to its `width` x `height` pixels.

    Coordinates are rounded to 0.01 pixel and scores to 0.00001; the rounded values are the ones evaluated and
    written.
    """
    boxes_xyxy = detections.boxes_xyxy.astype(np.float64).clip(0, [width, height] * 2)
    return pack_columns(
        np.full(len(detections.scores), image_id, np.int64),
        detections.labels,
        xyxy_to_xywh(boxes_xyxy).round(BOX_DECIMALS),
        detections.scores.astype(np.float64).round(SCORE_DECIMALS),
        detections.states,
        detections.state_scores.astype(np.float64).round(SCORE_DECIMALS),
    )


def to_coco_results(detections: Detections, image_id: int, width: int, height: int) -> list[Prediction]:
    """`round_detections` as dictionaries."""
    return list(round_detections(detections, image_id, width, height).to_rows())
