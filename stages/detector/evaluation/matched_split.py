"""A split with a detector's predictions on it, matched once; and the thresholds chosen on val."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.core.errors import UserError
from detector.engine.dataset import keep_present_objects
from detector.engine.detections import Predictions
from detector.evaluation.joint_states import AbsentObjects, match_absent_objects
from detector.evaluation.matching import Matches, Overlaps, collect_matches, find_overlaps
from detector.evaluation.operating_point import ThresholdChoice, choose_threshold, select_class


class MatchedSplit(NamedTuple):
    """coco: all objects; truth: those that are present; absent: the others.

    groups [N]: the group number of each image, by id: images of one group belong together.
    """

    coco: dict[str, Any]
    truth: dict[str, Any]
    predictions: Predictions
    overlaps: Overlaps
    matches: Matches
    absent: AbsentObjects
    groups: NDArray[np.int64]


class Thresholds(NamedTuple):
    """by_class [C]; overall: of all classes, None when they differ; notes: where a rule was not met."""

    by_class: NDArray[np.float64]
    overall: float | None
    notes: dict[str, str]


def match_split(coco: dict[str, Any], predictions: Predictions) -> MatchedSplit:
    """coco: as coco-convert writes it."""
    truth = keep_present_objects(coco)
    overlaps = find_overlaps(truth, predictions)
    matches = collect_matches(overlaps)
    absent = match_absent_objects(coco, predictions, matches)
    return MatchedSplit(coco, truth, predictions, overlaps, matches, absent, number_groups(coco))


def number_groups(coco: dict[str, Any]) -> NDArray[np.int64]:
    """The group number of each image [N], in the order of the ids: the same for images with the same `group`."""
    images = sorted(coco["images"], key=lambda image: int(image["id"]))
    numbers: dict[tuple[str, Any], int] = {}
    keys = [("group", image["group"]) if image.get("group") else ("id", image["id"]) for image in images]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)


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
    for index, category in enumerate(val.truth["categories"]):
        choice = _choose_class_threshold(val, index, rule, cost_ratio)
        if choice is None:
            notes[f"threshold of {category['name']}"] = "no correct detection on val: the overall threshold is used"
            continue
        by_class[index] = choice.threshold
        if choice.note:
            notes[f"threshold of {category['name']}"] = choice.note
    return Thresholds(by_class, None, notes)


def _choose_class_threshold(val: MatchedSplit, index: int, rule: str, cost_ratio: float) -> ThresholdChoice | None:
    matches = select_class(val.matches, index)
    if not matches.hits[0].any():
        return None
    return choose_threshold(matches, rule, val.absent.scores[val.absent.categories == index], cost_ratio)
