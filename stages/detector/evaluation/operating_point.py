"""The score threshold from which detections count: chosen on val by a rule, and what precision and recall it gives."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.coco_metrics import evaluate_boxes
from detector.evaluation.matching import Matches
from detector.inference.detections import Prediction


class OperatingPoint(NamedTuple):
    """threshold: of the score; detections from it upwards count. All values 0..1."""

    threshold: float
    precision: float
    recall: float
    f1: float


class Choice(NamedTuple):
    """note: why the threshold is not what the rule asks for; empty when it is."""

    threshold: float
    note: str


class Steps(NamedTuple):
    """What each threshold that makes a difference gives, highest first: all [T].

    scores: the thresholds; hits: right detections from there upwards; found: all; truths: objects to find.
    """

    scores: NDArray[np.float64]
    hits: NDArray[np.int64]
    found: NDArray[np.int64]
    truths: int


def steps_of(matches: Matches) -> Steps:
    """At IoU 0.5, all classes together."""
    counted = matches.at_half()
    # Of equal scores all count or none: only the last of each may be the threshold.
    last = np.flatnonzero(np.append(counted.scores[1:] != counted.scores[:-1], True)[: len(counted.scores)])
    return Steps(counted.scores[last], np.cumsum(counted.hits[0])[last], last + 1, int(matches.truths.sum()))


def choose(matches: Matches, rule: str, ghosts: NDArray[np.float64], cost_ratio: float) -> Choice:
    """The threshold by `rule`: `f1`, `precision>=0.9`, `recall>=0.9` (any number) or `cost`.

    precision: of those that reach it, the one with the highest recall; recall: the highest that reaches it.
    cost: the fewest missed objects, where finding an absent one costs as much as missing `cost_ratio`;
    ghosts: scores of the detections that found absent objects.
    """
    steps = steps_of(matches)
    if not steps.hits.any():
        return Choice(0.5, "nothing on val was found, so there is nothing to choose a threshold by")
    if rule == "f1":
        return Choice(float(steps.scores[(2 * steps.hits / (steps.found + steps.truths)).argmax()]), "")
    if rule == "cost":
        return Choice(float(steps.scores[costs(steps, ghosts, cost_ratio).argmin()]), "")
    measure, wanted = rule.split(">=")
    reached: NDArray[Any] = steps.hits / (steps.found if measure == "precision" else steps.truths)
    enough = reached >= float(wanted)
    if not enough.any():
        best = int(reached.argmax())
        return Choice(float(steps.scores[best]), f"val reaches {reached[best]:.3f} at most, not {rule}")
    if measure == "recall":
        return Choice(float(steps.scores[enough.argmax()]), "")
    return Choice(float(steps.scores[np.where(enough, steps.hits, -1).argmax()]), "")


def costs(steps: Steps, ghosts: NDArray[np.float64], cost_ratio: float) -> NDArray[np.float64]:
    """Missed objects, and `cost_ratio` times the absent ones that were found, at each threshold [T]."""
    found_absent = len(ghosts) - np.searchsorted(np.sort(ghosts), steps.scores)
    result: NDArray[np.float64] = (cost_ratio * found_absent + (steps.truths - steps.hits)).astype(np.float64)
    return result


def best_f1(matches: Matches) -> OperatingPoint:
    """The threshold with the highest F1 over all classes; 0.5 when there is nothing to choose by."""
    return at_threshold(matches, choose(matches, "f1", np.zeros(0), 0.0).threshold)


def at_threshold(matches: Matches, threshold: float, category: int | None = None) -> OperatingPoint:
    """Precision, recall and F1 of all classes, or of the one in a place; 0 where there is nothing to divide by."""
    counted = matches.at_half()
    chosen = counted.scores >= threshold
    truths = int((matches.truths if category is None else matches.truths[:, category]).sum())
    if category is not None:
        chosen &= counted.categories == category
    hits, found = int((chosen & counted.hits[0]).sum()), int(chosen.sum())
    return OperatingPoint(threshold, hits / max(1, found), hits / max(1, truths), 2 * hits / max(1, found + truths))


def recall_at_precision(matches: Matches, precision: float) -> float | None:
    """The highest recall among the thresholds that reach `precision`, 0 when none does; None without objects."""
    steps = steps_of(matches)
    if not steps.truths:
        return None
    enough = steps.hits / np.maximum(steps.found, 1) >= precision
    return float(np.where(enough, steps.hits, 0).max(initial=0) / steps.truths)


def of_class(matches: Matches, category: int) -> Matches:
    """The detections and the objects of the class in a place alone."""
    part = matches.chosen(matches.categories == category)
    others = np.arange(matches.truths.shape[1]) != category
    return part._replace(truths=np.where(others, 0, matches.truths))


def confusions_at(
    threshold: float | NDArray[np.float64], truth: dict[str, Any], predictions: list[Prediction], matches: Matches
) -> NDArray[np.uint64]:
    """Counts [C + 1, C + 1] at IoU 0.5: what was there in rows, what was found in columns, background last.

    threshold: one for all classes, or [C]. matches: of these predictions. As for AP, those that only lie on
    a crowd are neither right nor wrong.
    """
    on_crowd = set(matches.detections[matches.ignored[0]].tolist())
    limits = np.broadcast_to(np.asarray(threshold, float), matches.category_ids.shape)
    limit_of = dict(zip(matches.category_ids.tolist(), limits.tolist(), strict=True))
    counted = [
        prediction for place, prediction in enumerate(predictions)
        if place not in on_crowd and prediction["score"] >= limit_of[prediction["category_id"]]
    ]  # fmt: skip
    judged = evaluate_boxes({**truth, "annotations": [a for a in truth["annotations"] if not a["iscrowd"]]}, counted)
    matrix: NDArray[np.uint64] = judged.confusion_matrix(iou_thr=0.5)["matrix"]
    return matrix
