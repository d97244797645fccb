"""The score threshold from which detections count: chosen on val by a rule."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.matching import Matches


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
