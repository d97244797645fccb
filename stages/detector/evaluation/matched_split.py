"""A split with what a detector found on it, matched once; and the thresholds that val gives."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from hotcoco import COCOeval
from numpy.typing import NDArray

from detector.core.errors import UserError
from detector.engine.coco_metrics import evaluate_boxes
from detector.engine.dataset import present_objects
from detector.engine.detections import Prediction
from detector.evaluation.joint_states import Absent, absent_objects
from detector.evaluation.matching import Matches, matches_of
from detector.evaluation.operating_point import Choice, choose, of_class


class Judged(NamedTuple):
    """coco: all objects; truth: those that are there to be found; absent: the others.

    groups [N]: a number for each image, by id: those with the same belong together.
    """

    coco: dict[str, Any]
    truth: dict[str, Any]
    predictions: list[Prediction]
    evaluation: COCOeval
    matches: Matches
    absent: Absent
    groups: NDArray[np.int64]


class Thresholds(NamedTuple):
    """limits [C]: of each class; overall: of all, None when classes differ; notes: what they fall short of."""

    limits: NDArray[np.float64]
    overall: float | None
    notes: dict[str, str]


def judge(coco: dict[str, Any], predictions: list[Prediction]) -> Judged:
    """coco: as coco-convert writes it."""
    truth = present_objects(coco)
    evaluation = evaluate_boxes(truth, predictions)
    matches = matches_of(evaluation)
    absent = absent_objects(coco, predictions, matches)
    return Judged(coco, truth, predictions, evaluation, matches, absent, groups_of(coco))


def groups_of(coco: dict[str, Any]) -> NDArray[np.int64]:
    """A number for each image [N], in the order of the ids: the same for images with the same `group`."""
    images = sorted(coco["images"], key=lambda image: int(image["id"]))
    numbers: dict[tuple[str, Any], int] = {}
    keys = [("group", image["group"]) if image.get("group") else ("id", image["id"]) for image in images]
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)


def thresholds_on(val: Judged, rule: str, per_class: bool, cost_ratio: float) -> Thresholds:
    """The threshold of all classes, or one of each, by a rule of `operating_point.choose`.

    A class that val has nothing of, or of which nothing was found, gets the threshold of all. Raises UserError
    when the rule is `cost` and no object of val is absent.
    """
    if rule == "cost" and not val.absent.truths.any():
        raise UserError(
            "params.yaml: `evaluate.threshold` is cost, which weighs absent objects that were found, and val has none; "
            "choose f1, precision>=0.9 or recall>=0.9, or see `coco_convert.present_states`"
        )
    everything = choose(val.matches, rule, val.absent.scores, cost_ratio)
    notes = {"threshold": everything.note} if everything.note else {}
    limits = np.full(len(val.matches.category_ids), everything.threshold)
    if not per_class:
        return Thresholds(limits, everything.threshold, notes)
    notes["threshold"] = "each class has its own: see classes"
    for place, category in enumerate(val.truth["categories"]):
        choice = _of_class(val, place, rule, cost_ratio)
        if choice is None:
            notes[f"threshold of {category['name']}"] = "nothing of this class was found on val: that of all classes"
            continue
        limits[place] = choice.threshold
        if choice.note:
            notes[f"threshold of {category['name']}"] = choice.note
    return Thresholds(limits, None, notes)


def _of_class(val: Judged, place: int, rule: str, cost_ratio: float) -> Choice | None:
    matches = of_class(val.matches, place)
    if not matches.hits[0].any():
        return None
    return choose(matches, rule, val.absent.scores[val.absent.categories == place], cost_ratio)
