"""The error type of each detection, at any score threshold."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.core.boxes import pairwise_iou_xyxy, xywh_to_xyxy
from detector.engine.detections import Predictions
from detector.engine.ground_truth import GroundTruth
from detector.evaluation.calibration import calibrate_scores
from detector.evaluation.matching import Matches

# The values of `ErrorAnalysis.error_types`, in this order. An object that no detection is matched to is MISSED.
ERROR_TYPES = ("correct", "state", "class", "localization", "duplicate", "absent", "background")
CORRECT, WRONG_STATE, WRONG_CLASS, LOCALIZATION, DUPLICATE, ABSENT, BACKGROUND = range(len(ERROR_TYPES))
MISSED = "missed"
MATCH_IOU = 0.5  # minimum IoU of a detection and the object that it is matched to
LOCALIZATION_IOU = 0.1  # minimum IoU with an object of its class for a localization error, as in TIDE


class GroundTruthObjects(NamedTuple):
    """The annotated objects without crowds, absent ones included.

    ids int [A]: of the annotations. images, categories int [A]: indices into the lists of images and classes.
    states int [A]: ids, 0 if unknown. boxes_xywh float [A, 4]: image pixels. absent bool [A]: not there to be
    detected. scores float [A]: of the matched detection, -1 without one.
    """

    ids: NDArray[np.int64]
    images: NDArray[np.int32]
    categories: NDArray[np.int32]
    states: NDArray[np.int32]
    boxes_xywh: NDArray[np.float64]
    absent: NDArray[np.bool_]
    scores: NDArray[np.float64]


class ErrorAnalysis(NamedTuple):
    """The detections that count at IoU 0.5, best score first, and the objects that they are matched to.

    A detection is matched to the free object of any class that it overlaps most, from IoU 0.5; better scores choose
    first. So a threshold only changes which detections are considered. `hits`, in contrast, are COCO's, which
    matches within each class.

    scores float [D]; images, categories, states int [D] as in GroundTruthObjects. hits bool [D]. object_indices int
    [D]: index into `objects`, or -1. error_types int [D]: index into ERROR_TYPES. prediction_indices int [D]: index
    into `predictions`.
    """

    scores: NDArray[np.float64]
    images: NDArray[np.integer[Any]]
    categories: NDArray[np.integer[Any]]
    states: NDArray[np.int16]
    hits: NDArray[np.bool_]
    object_indices: NDArray[np.int32]
    error_types: NDArray[np.int8]
    prediction_indices: NDArray[np.integer[Any]]
    predictions: Predictions
    objects: GroundTruthObjects

    def boxes_xywh(self, index: NDArray[Any] | slice | list[int]) -> NDArray[np.float64]:
        """The boxes [*, 4] of the detections at these positions, in image pixels."""
        return self.predictions.select(self.prediction_indices[index]).boxes_xywh

    def select_detections(self, thresholds: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Mask [D] of the detections that reach the threshold of their class [C]."""
        mask: NDArray[np.bool_] = self.scores >= thresholds[self.categories]
        return mask

    def select_missed(self, thresholds: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Mask [A] of the present objects without a matched detection that reaches its threshold [C]."""
        detected = np.zeros(len(self.objects.ids), bool)
        matched = self.object_indices[self.select_detections(thresholds)]
        detected[matched[matched >= 0]] = True
        return ~detected & ~self.objects.absent

    def calibrate(self, temperature: float) -> ErrorAnalysis:
        """The same with the scores that people see; thresholds need `calibrate_scores` with the same temperature."""
        matched = self.objects.scores >= 0
        objects = self.objects._replace(
            scores=np.where(matched, calibrate_scores(self.objects.scores.clip(0), temperature), -1.0)
        )
        return self._replace(scores=calibrate_scores(self.scores, temperature), objects=objects)


def analyze_errors(labels: GroundTruth, predictions: Predictions, matches: Matches) -> ErrorAnalysis:
    """Match `predictions` to the objects of a split, absent ones included, and assign their error types.

    matches: of the predictions with the present objects.
    """
    objects = collect_objects(labels)
    counted = matches.select_iou50()
    states = predictions.states[counted.prediction_indices]
    object_indices = np.full(len(counted.scores), -1, np.int32)
    error_types = np.full(len(counted.scores), BACKGROUND, np.int8)
    # As in hotcoco's confusion matrix: of equal scores the first class chooses first.
    order = np.lexsort((counted.categories, -counted.scores, counted.images)).astype(np.int32)
    places = np.arange(len(matches.image_ids) + 1)
    starts, object_starts = (
        np.searchsorted(images, places).tolist() for images in (counted.images[order], objects.images)
    )
    for image in range(len(matches.image_ids)):
        chosen = order[starts[image] : starts[image + 1]]
        candidates = slice(object_starts[image], object_starts[image + 1])
        if not len(chosen) or candidates.start == candidates.stop:
            continue
        boxes_xywh = predictions.select(counted.prediction_indices[chosen]).boxes_xywh
        ious = pairwise_iou_xyxy(xywh_to_xyxy(boxes_xywh), xywh_to_xyxy(objects.boxes_xywh[candidates]))
        absent = objects.absent[candidates]
        present_ious, absent_ious = np.where(absent, 0.0, ious), np.where(absent, ious, 0.0)
        same_class = counted.categories[chosen, None] == objects.categories[candidates]
        columns = _match_greedily(present_ious)
        object_indices[chosen] = np.where(columns >= 0, candidates.start + columns, -1)
        error_types[chosen] = _assign_error_types(columns, present_ious, absent_ious, same_class)
        correct = chosen[(columns >= 0) & (error_types[chosen] == CORRECT)]
        true, predicted = objects.states[object_indices[correct]], states[correct]
        error_types[correct[(true > 0) & (predicted > 0) & (true != predicted)]] = WRONG_STATE
    matched = np.flatnonzero(object_indices >= 0)
    objects.scores[object_indices[matched]] = counted.scores[matched]
    return ErrorAnalysis(
        scores=counted.scores,
        images=counted.images,
        categories=counted.categories,
        states=states,
        hits=counted.hits(),
        object_indices=object_indices,
        error_types=error_types,
        prediction_indices=counted.prediction_indices,
        predictions=predictions,
        objects=objects,
    )


def collect_objects(labels: GroundTruth) -> GroundTruthObjects:
    """The objects without crowds."""
    kept = ~labels.objects.crowds
    objects = labels.objects.select(kept)
    return GroundTruthObjects(
        ids=objects.ids,
        images=objects.images,
        categories=objects.categories - 1,
        states=objects.states,
        boxes_xywh=objects.boxes_xywh,
        absent=~labels.present[kept],
        scores=np.full(len(objects.ids), -1.0),
    )


def compute_confusion_matrix(analysis: ErrorAnalysis, thresholds: NDArray[np.float64]) -> NDArray[np.int64]:
    """Counts [C + 1, C + 1]: true classes in rows, predicted classes in columns, background last."""
    classes = len(thresholds)
    matrix = np.zeros((classes + 1, classes + 1), np.int64)
    selected = analysis.select_detections(thresholds)
    object_classes = np.append(analysis.objects.categories, classes)
    true = np.where(analysis.object_indices >= 0, object_classes[analysis.object_indices], classes)
    np.add.at(matrix, (true[selected], analysis.categories[selected]), 1)
    missed = analysis.objects.categories[analysis.select_missed(thresholds)]
    matrix[:classes, classes] = np.bincount(missed, minlength=classes)
    return matrix


def _match_greedily(ious: NDArray[np.float64]) -> NDArray[np.int64]:
    """For each row of [N, M], best score first, the free column with the highest IoU from MATCH_IOU, or -1."""
    free = ious.copy()
    columns = np.full(len(free), -1, np.int64)
    for row in np.flatnonzero(ious.max(axis=1) >= MATCH_IOU):
        column = int(free[row].argmax())
        if free[row, column] >= MATCH_IOU:
            columns[row] = column
            free[:, column] = 0
    return columns


def _assign_error_types(
    columns: NDArray[np.int64],
    present_ious: NDArray[np.float64],
    absent_ious: NDArray[np.float64],
    same_class: NDArray[np.bool_],
) -> NDArray[np.int64]:
    """The error type [N] of each detection, ignoring states; IoUs [N, M] with present and with absent objects."""
    matched = columns >= 0
    best_same_class = np.where(same_class, present_ious, 0.0).max(axis=1)
    best_absent = np.where(same_class, absent_ious, 0).max(axis=1)
    conditions = {
        CORRECT: same_class[np.arange(len(columns)), columns] & matched,
        WRONG_CLASS: matched,
        DUPLICATE: present_ious.max(axis=1) >= MATCH_IOU,
        ABSENT: best_absent >= MATCH_IOU,
        LOCALIZATION: best_same_class >= LOCALIZATION_IOU,
    }
    return np.select(list(conditions.values()), list(conditions), BACKGROUND)
