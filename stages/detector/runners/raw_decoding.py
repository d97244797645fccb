"""Detections from the outputs of a file without NMS, as `models/postprocess.py` selects them, in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.core.boxes import pairwise_iou_xyxy
from detector.engine.detections import Detections
from detector.runners.model_metadata import RawDecoding


def decode_raw_outputs(
    boxes_xyxy: NDArray[np.float32],
    class_scores: NDArray[np.float32],
    state_scores: NDArray[np.float32] | None,
    decoding: RawDecoding,
) -> Detections:
    """Boxes [L, 4] in pixels, class scores [L, C] and state scores [L, S] of all locations of one image -> detections.

    The best pairs of a location and a class go through NMS per class. state_scores: None without a state head.
    """
    classes = class_scores.shape[1]
    best = np.argsort(-class_scores, axis=None, kind="stable")[: decoding.candidates]
    best = best[class_scores.ravel()[best] > decoding.score_threshold]
    location, category = best // classes, best % classes
    kept = np.ones(len(best), bool)
    if decoding.nms_iou is not None:
        kept = suppress(boxes_xyxy[location], category, decoding.nms_iou)
    location, category = location[kept][: decoding.max_detections], category[kept][: decoding.max_detections]
    states = np.zeros((len(location), 1), np.float32) if state_scores is None else state_scores[location]
    return Detections(
        boxes_xyxy[location],
        class_scores[location, category],
        (category + 1).astype(np.int64),
        np.zeros(len(location), np.int64) if state_scores is None else states.argmax(1) + 1,
        states.max(1),
    )


def suppress(boxes_xyxy: NDArray[Any], groups: NDArray[np.int64], iou_threshold: float) -> NDArray[np.bool_]:
    """Greedy NMS within each group: which boxes [K, 4], best first, are kept, bool [K]."""
    overlaps = pairwise_iou_xyxy(boxes_xyxy.astype(np.float64), boxes_xyxy.astype(np.float64)) > iou_threshold
    overlaps &= groups[:, None] == groups[None, :]
    kept = np.ones(len(groups), bool)
    for index in range(len(groups)):
        if kept[index]:
            kept[index + 1 :] &= ~overlaps[index, index + 1 :]
    return kept
