"""Detections matched to labels, whatever their classes, and how confident the detector is in each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.core.boxes import Boxes, area_xyxy, pairwise_iou_xyxy, xywh_to_xyxy
from detector.engine.detections import Predictions

MATCH_IOU = 0.5  # minimum IoU of a detection and the label that it is matched to
LOOSE_IOU = 0.1  # the same for a label of its class, whose box may be badly drawn
CONFIDENT_QUANTILE = 0.9  # of the correct detections' scores of a class: confidence 1


class ImageMatch(NamedTuple):
    """One image: its labels without crowds [A], and its detections that lie on no crowd [D].

    label_classes int [A], predicted_classes int [D]: category ids. iou [A, D] of labels and detections; label_iou
    [A, A] of labels. boxes_xywh float64 [D, 4]; scores float64 [D]; states int16 [D]. confidence [D]: 0..1, the score
    relative to those of the best correct detections of the class.
    matches: index of a label -> index of the one detection that is matched to it.
    """

    image: dict[str, Any]
    annotations: list[dict[str, Any]]
    boxes_xywh: NDArray[np.float64]
    scores: NDArray[np.float64]
    states: NDArray[np.int16]
    label_classes: NDArray[np.int64]
    predicted_classes: NDArray[np.int32]
    iou: NDArray[np.float64]
    label_iou: NDArray[np.float64]
    confidence: NDArray[np.float64]
    matches: dict[int, int]

    def is_matched(self, row: int) -> bool:
        """Whether a label's detection has the same class and overlaps it by MATCH_IOU."""
        column = self.matches.get(row)
        if column is None or self.label_classes[row] != self.predicted_classes[column]:
            return False
        return bool(self.iou[row, column] >= MATCH_IOU)


def match_labels(coco: dict[str, Any], predictions: Predictions) -> list[ImageMatch]:
    """The images of a COCO dictionary in its order, matched with their `predictions`."""
    annotations: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in coco["images"]}
    for annotation in coco["annotations"]:
        annotations[annotation["image_id"]].append(annotation)
    order = np.argsort(predictions.image_ids, kind="stable")
    ids = np.array(list(annotations), np.int64)
    bounds = (np.searchsorted(predictions.image_ids[order], ids, side) for side in ("left", "right"))
    parts = [order[start:end] for start, end in zip(*bounds, strict=True)]
    boxes_xywh, scores = predictions.boxes_xywh, predictions.scores
    matches = [
        _compute_overlaps(
            image,
            annotations[image["id"]],
            boxes_xywh=boxes_xywh[part],
            scores=scores[part],
            states=predictions.states[part],
            classes=predictions.category_ids[part],
        )
        for image, part in zip(coco["images"], parts, strict=True)
    ]
    confident_scores = _compute_confident_scores(matches)
    return [_assign_detections(match, confident_scores) for match in matches]


def _compute_overlaps(
    image: dict[str, Any],
    all_annotations: list[dict[str, Any]],
    *,
    boxes_xywh: NDArray[np.float64],
    scores: NDArray[np.float64],
    states: NDArray[np.int16],
    classes: NDArray[np.int32],
) -> ImageMatch:
    """One image with scores as confidence and without matches; of its detections all columns [D]."""
    annotations = [annotation for annotation in all_annotations if not annotation["iscrowd"]]
    labels_xyxy, boxes_xyxy = _stack_boxes(annotations), xywh_to_xyxy(boxes_xywh)
    if len(annotations) < len(all_annotations):
        crowds_xyxy = _stack_boxes([annotation for annotation in all_annotations if annotation["iscrowd"]])
        kept = ~np.any(_compute_coverage(boxes_xyxy, crowds_xyxy) >= MATCH_IOU, axis=1)
        boxes_xyxy, boxes_xywh = boxes_xyxy[kept], boxes_xywh[kept]
        scores, states, classes = scores[kept], states[kept], classes[kept]
    return ImageMatch(
        image=image,
        annotations=annotations,
        boxes_xywh=boxes_xywh,
        scores=scores,
        states=states,
        label_classes=np.array([annotation["category_id"] for annotation in annotations], np.int64),
        predicted_classes=classes,
        iou=pairwise_iou_xyxy(labels_xyxy, boxes_xyxy),
        label_iou=pairwise_iou_xyxy(labels_xyxy, labels_xyxy),
        confidence=scores,
        matches={},
    )


def _stack_boxes(annotations: Sequence[Any]) -> Boxes:
    """The boxes of annotations, xyxy [N, 4]."""
    return xywh_to_xyxy(np.array([row["bbox"] for row in annotations], float).reshape(-1, 4))


def _compute_coverage(boxes_xyxy: Boxes, crowds_xyxy: Boxes) -> NDArray[np.float64]:
    """Fraction of each box inside each crowd: [D, 4] and [K, 4] -> [D, K]."""
    left_top = np.maximum(boxes_xyxy[:, None, :2], crowds_xyxy[None, :, :2])
    right_bottom = np.minimum(boxes_xyxy[:, None, 2:], crowds_xyxy[None, :, 2:])
    intersection = np.prod(np.clip(right_bottom - left_top, 0, None), axis=-1)  # [D, K]
    area = area_xyxy(boxes_xyxy)[:, None]
    coverage: NDArray[np.float64] = np.divide(intersection, area, out=np.zeros_like(intersection), where=area > 0)
    return coverage


def _compute_confident_scores(matches: list[ImageMatch]) -> dict[int, float]:
    """Per class, CONFIDENT_QUANTILE of the scores of correct detections, the best one per object."""
    best: dict[int, list[float]] = {}
    for match in matches:
        correct = (match.iou >= MATCH_IOU) & (match.label_classes[:, None] == match.predicted_classes)  # [A, D]
        for row in np.flatnonzero(correct.any(axis=1)):
            score = float(match.confidence[correct[row]].max())
            best.setdefault(int(match.label_classes[row]), []).append(score)
    return {category: float(np.quantile(scores, CONFIDENT_QUANTILE)) for category, scores in best.items()}


def _assign_detections(match: ImageMatch, confident_scores: dict[int, float]) -> ImageMatch:
    """Match labels and detections one to one, highest IoU times confidence first."""
    scale = np.array([confident_scores.get(int(category), 1.0) for category in match.predicted_classes])
    confidence = np.minimum(1.0, match.confidence / np.maximum(scale, 1e-9))
    min_iou = np.where(match.label_classes[:, None] == match.predicted_classes, LOOSE_IOU, MATCH_IOU)
    rows, columns = np.nonzero(match.iou >= min_iou)
    matches: dict[int, int] = {}
    taken: set[int] = set()
    for position in np.argsort(-(match.iou * confidence)[rows, columns], kind="stable"):
        row, column = int(rows[position]), int(columns[position])
        if row not in matches and column not in taken:
            matches[row] = column
            taken.add(column)
    return match._replace(confidence=confidence, matches=matches)
