"""Detections matched to labels, whatever their classes, and how confident the detector is in each."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.core.boxes import Boxes, area_xyxy, pairwise_iou_xyxy, xywh_to_xyxy
from detector.engine.detections import Predictions
from detector.engine.ground_truth import GroundTruth, ObjectColumns

MATCH_IOU = 0.5  # minimum IoU of a detection and the label that it is matched to
LOOSE_IOU = 0.1  # the same for a label of its class, whose box may be badly drawn
CONFIDENT_QUANTILE = 0.9  # of the correct detections' scores of a class: confidence 1
IMAGES_AT_ONCE = 1000  # whose columns are unpacked together


class ImageMatch(NamedTuple):
    """One image: its labels without crowds [A], and its detections that lie on no crowd [D].

    image: index of the image; labels [A]: indices of its objects. label_classes, label_states int [A],
    predicted_classes int [D]: ids. iou [A, D] of labels and detections. labels_xyxy, boxes_xywh float64 [A, 4] and
    [D, 4]: of labels and of detections; scores float64 [D]; states int16 [D]. confidence [D]: 0..1, the score relative
    to those of the best correct detections of the class.
    matches: index of a label -> index of the one detection that is matched to it.
    """

    image: int
    labels: NDArray[np.int64]
    boxes_xywh: NDArray[np.float64]
    scores: NDArray[np.float64]
    states: NDArray[np.int16]
    label_classes: NDArray[np.int32]
    label_states: NDArray[np.int32]
    predicted_classes: NDArray[np.int32]
    iou: NDArray[np.float64]
    labels_xyxy: Boxes
    confidence: NDArray[np.float64]
    matches: dict[int, int]

    def is_matched(self, row: int) -> bool:
        """Whether a label's detection has the same class and overlaps it by MATCH_IOU."""
        column = self.matches.get(row)
        if column is None or self.label_classes[row] != self.predicted_classes[column]:
            return False
        return bool(self.iou[row, column] >= MATCH_IOU)


class LabelMatches:
    """The images of a split in their order, matched with a detector's predictions.

    They are matched again in every pass, because a million of them do not fit into memory.
    """

    def __init__(self, labels: GroundTruth, predictions: Predictions) -> None:
        self._labels, self._predictions = labels, predictions
        self._order = np.argsort(predictions.image_ids, kind="stable").astype(np.int32)
        ids = predictions.image_ids[self._order]
        self._first = np.searchsorted(ids, labels.images.ids)
        self._last = np.searchsorted(ids, labels.images.ids, side="right")
        self._confident_scores = _compute_confident_scores(self._iterate_overlaps())

    def __iter__(self) -> Iterator[ImageMatch]:
        for match in self._iterate_overlaps():
            yield _assign_detections(match, self._confident_scores)

    def _iterate_overlaps(self) -> Iterator[ImageMatch]:
        """Each image with scores as confidence and without matches."""
        count = len(self._labels.images.ids)
        starts = np.searchsorted(self._labels.objects.images, np.arange(count + 1))
        for start in range(0, count, IMAGES_AT_ONCE):
            end = min(start + IMAGES_AT_ONCE, count)
            base, first = self._first[start], starts[start]
            found = self._predictions.select(self._order[base : self._last[end - 1]])
            boxes_xywh, scores = found.boxes_xywh, found.scores
            objects = self._labels.objects.select(slice(first, starts[end]))
            for image in range(start, end):
                part = slice(self._first[image] - base, self._last[image] - base)
                own = slice(starts[image] - first, starts[image + 1] - first)
                yield _compute_overlaps(
                    image,
                    np.arange(starts[image], starts[image + 1]),
                    objects.select(own),
                    boxes_xywh=boxes_xywh[part],
                    scores=scores[part],
                    states=found.states[part],
                    classes=found.category_ids[part],
                )


def _compute_overlaps(
    image: int,
    labels: NDArray[np.int64],
    objects: ObjectColumns,
    *,
    boxes_xywh: NDArray[np.float64],
    scores: NDArray[np.float64],
    states: NDArray[np.int16],
    classes: NDArray[np.int32],
) -> ImageMatch:
    """One image; labels: indices of its `objects`, crowds included; of its detections all columns [D]."""
    labels_xyxy, boxes_xyxy = xywh_to_xyxy(objects.boxes_xywh), xywh_to_xyxy(boxes_xywh)
    label_classes, label_states = objects.categories, objects.states
    if objects.crowds.any():
        labeled = ~objects.crowds
        kept = ~np.any(_compute_coverage(boxes_xyxy, labels_xyxy[~labeled]) >= MATCH_IOU, axis=1)
        boxes_xyxy, boxes_xywh = boxes_xyxy[kept], boxes_xywh[kept]
        scores, states, classes = scores[kept], states[kept], classes[kept]
        labels, labels_xyxy = labels[labeled], labels_xyxy[labeled]
        label_classes, label_states = label_classes[labeled], label_states[labeled]
    return ImageMatch(
        image=image,
        labels=labels,
        boxes_xywh=boxes_xywh,
        scores=scores,
        states=states,
        label_classes=label_classes,
        label_states=label_states,
        predicted_classes=classes,
        iou=pairwise_iou_xyxy(labels_xyxy, boxes_xyxy),
        labels_xyxy=labels_xyxy,
        confidence=scores,
        matches={},
    )


def _compute_coverage(boxes_xyxy: Boxes, crowds_xyxy: Boxes) -> NDArray[np.float64]:
    """Fraction of each box inside each crowd: [D, 4] and [K, 4] -> [D, K]."""
    left_top = np.maximum(boxes_xyxy[:, None, :2], crowds_xyxy[None, :, :2])
    right_bottom = np.minimum(boxes_xyxy[:, None, 2:], crowds_xyxy[None, :, 2:])
    intersection = np.prod(np.clip(right_bottom - left_top, 0, None), axis=-1)  # [D, K]
    area = area_xyxy(boxes_xyxy)[:, None]
    coverage: NDArray[np.float64] = np.divide(intersection, area, out=np.zeros_like(intersection), where=area > 0)
    return coverage


def _compute_confident_scores(matches: Iterable[ImageMatch]) -> dict[int, float]:
    """Per class, CONFIDENT_QUANTILE of the scores of correct detections, the best one per object."""
    best: dict[int, array[float]] = {}
    for match in matches:
        correct = (match.iou >= MATCH_IOU) & (match.label_classes[:, None] == match.predicted_classes)  # [A, D]
        for row in np.flatnonzero(correct.any(axis=1)):
            score = float(match.confidence[correct[row]].max())
            best.setdefault(int(match.label_classes[row]), array("d")).append(score)
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
