"""A split with a detector's predictions on it, matched once; and the thresholds chosen on val."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.core.errors import UserError
from detector.engine.detections import Predictions
from detector.engine.ground_truth import GroundTruth, ImageColumns
from detector.evaluation.joint_states import AbsentObjects, match_absent_objects
from detector.evaluation.matching import Matches, collect_matches
from detector.evaluation.operating_point import ThresholdChoice, choose_threshold, select_class
from detector.evaluation.overlaps import find_overlaps


class MatchedSplit(NamedTuple):
    """labels: all objects; truth: those that are present; absent: the others.

    groups [N]: the group number of each image, by id: images of one group belong together.
    """

    labels: GroundTruth
    truth: GroundTruth
    predictions: Predictions
    matches: Matches
    absent: AbsentObjects
    groups: NDArray[np.int64]


class Thresholds(NamedTuple):
    """by_class [C]; overall: of all classes, None when they differ; notes: where a rule was not met."""

    by_class: NDArray[np.float64]
    overall: float | None
    notes: dict[str, str]


def match_split(labels: GroundTruth, predictions: Predictions) -> MatchedSplit:
    """labels: with absent objects."""
    truth = labels.keep_present()
    matches = collect_matches(find_overlaps(truth, predictions))
    absent = match_absent_objects(labels, predictions, matches)
    return MatchedSplit(labels, truth, predictions, matches, absent, number_groups(labels.images))


def number_groups(images: ImageColumns) -> NDArray[np.int64]:
    """The group number of each image [N], in the order of the images: the same for images with the same `group`."""
    count = len(images.ids)
    keys = np.arange(count)
    if "group" in images.fields:
        field = images.fields["group"]
        named = np.array([bool(name) for name in field.names])[field.codes] & (field.codes >= 0)
        keys = np.where(named, count + field.codes, keys)
    _, first, members = np.unique(keys, return_index=True, return_inverse=True)
    numbers = np.empty(len(first), np.int64)
    numbers[np.argsort(first)] = np.arange(len(first))
    return numbers[members]


def choose_thresholds(val: MatchedSplit, rule: str, per_class: bool, cost_ratio: float) -> Thresholds:
    """One threshold for all classes, or one per class, by a rule of `operating_point.choose_threshold`.

    A class without a correct detection on val gets the overall threshold. Raises UserError when the rule is `cost`
    and val has no absent object.
    """
    if rule == "cost" and not val.absent.object_counts.any():
        raise UserError(
            "params.yaml: `evaluate.threshold_rule` is cost, which weighs detected absent objects, and val has no "
            "absent object; choose f1, precision>=0.9 or recall>=0.9, or see `coco_convert.absent_states`"
        )
    overall = choose_threshold(val.matches, rule, val.absent.scores, cost_ratio)
    notes = {"threshold": overall.note} if overall.note else {}
    by_class = np.full(len(val.matches.category_ids), overall.threshold)
    if not per_class:
        return Thresholds(by_class, overall.threshold, notes)
    notes["threshold"] = "each class has its own: see classes"
    for index, name in enumerate(val.truth.names.classes):
        choice = _choose_class_threshold(val, index, rule, cost_ratio)
        if choice is None:
            notes[f"threshold of {name}"] = "no correct detection on val: the overall threshold is used"
            continue
        by_class[index] = choice.threshold
        if choice.note:
            notes[f"threshold of {name}"] = choice.note
    return Thresholds(by_class, None, notes)


def _choose_class_threshold(val: MatchedSplit, index: int, rule: str, cost_ratio: float) -> ThresholdChoice | None:
    matches = select_class(val.matches, index)
    if not matches.hits().any():
        return None
    return choose_threshold(matches, rule, val.absent.scores[val.absent.categories == index], cost_ratio)
