"""Metrics of states: given the true boxes, end to end, and for absent objects."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.bootstrap import weigh
from detector.evaluation.calibration import calibrate_score
from detector.evaluation.intervals import nanmean, none_if_nan, safe_divide
from detector.evaluation.joint_states import compute_joint_ap, count_by_class_and_state
from detector.evaluation.matched_split import MatchedSplit
from detector.evaluation.operating_point import choose_threshold

CURVE_POINTS = 200  # maximum, of a curve that is written to a file


class StateScores(NamedTuple):
    """macro_f1: mean F1 of the states that occur, None when none does; rows: one dictionary per state."""

    macro_f1: float | None
    rows: list[dict[str, Any]]


class StateMetrics(NamedTuple):
    """values: the flat metrics; replicates [B]: the same per bootstrap sample; details, notes: see `Metrics`."""

    values: dict[str, float | None]
    replicates: dict[str, NDArray[np.float64]]
    details: dict[str, Any]
    notes: dict[str, str]


def compute_state_metrics(
    val: MatchedSplit,
    test: MatchedSplit,
    *,
    thresholds: NDArray[np.float64],
    state_scores: NDArray[np.float64],
    weights: NDArray[np.integer[Any]],
    cost_ratio: float,
    temperature: float | None,
) -> StateMetrics:
    """thresholds [C]: of each class, raw scores; state_scores [A, S]: of test's objects.

    weights [B, N]: bootstrap samples. temperature: that calibrates scores, see `calibration.calibrate_score`.
    """
    names, objects = test.labels.names.states, test.labels.objects
    true, images = objects.states[~objects.crowds], objects.images[~objects.crowds]
    predicted = state_scores.argmax(axis=1) + 1
    matrix = compute_state_confusion(true, predicted, len(names))
    given_boxes = score_states(matrix, names)
    joint = compute_joint_ap(test.truth, test.predictions, weights)
    hallucination, hallucination_replicates, notes = compute_hallucination(val, test, thresholds, weights, cost_ratio)
    if hallucination["threshold_by_cost"] is not None:
        hallucination["threshold_by_cost"] = calibrate_score(hallucination["threshold_by_cost"], temperature)
    known = true > 0
    curves = [(name, state_scores[known, index], true[known] == index + 1) for index, name in enumerate(names)]
    details = {
        "names": names,
        "confusion": matrix.tolist(),
        "given_boxes": given_boxes.rows,
        "joint": joint.by_state,
        "roc": {name: roc_curve(scores, positive) for name, scores, positive in curves},
        "precision_recall": {name: precision_recall_curve(scores, positive) for name, scores, positive in curves},
        "by_class": count_by_class_and_state(test.labels, test.predictions, test.matches, test.absent, thresholds),
        "hallucination": hallucination,
    }
    if given_boxes.macro_f1 is None:
        notes["state_F1"] = "no object has a known state"
    if joint.ap is None:
        notes["joint_AP"] = "no present object has a known state"
    for row in given_boxes.rows:
        if not row["objects"]:
            notes[f"state {row['state']}"] = "no object is in this state"
    values = {"state_F1": given_boxes.macro_f1, "joint_AP": joint.ap, "hallucination": hallucination["rate"]}
    replicates = {
        "state_F1": bootstrap_macro_f1(true, predicted, images, len(names), weights),
        "joint_AP": joint.replicates,
        "hallucination": hallucination_replicates,
    }
    return StateMetrics(values, replicates, details, notes)


def compute_hallucination(
    val: MatchedSplit,
    test: MatchedSplit,
    thresholds: NDArray[np.float64],
    weights: NDArray[np.integer[Any]],
    cost_ratio: float,
) -> tuple[dict[str, Any], NDArray[np.float64], dict[str, str]]:
    """The fraction of absent objects that are detected at the thresholds [C], its replicates [B], and notes."""
    absent = test.absent
    above = absent.scores >= thresholds[absent.categories]
    detected = np.bincount(absent.images[above], minlength=len(absent.object_counts))
    notes = {} if absent.object_counts.any() else {"hallucination": "no object is absent"}
    threshold_by_cost = None
    if val.absent.object_counts.any():
        threshold_by_cost = choose_threshold(val.matches, "cost", val.absent.scores, cost_ratio).threshold
    else:
        notes["threshold_by_cost"] = "val has no absent object"
    details = {
        "absent": int(absent.object_counts.sum()),
        "detected": int(detected.sum()),
        "rate": none_if_nan(safe_divide(detected.sum(), absent.object_counts.sum())),
        "threshold_by_cost": threshold_by_cost,
        "cost_ratio": cost_ratio,
    }
    return details, safe_divide(weigh(weights, detected), weigh(weights, absent.object_counts)), notes


def compute_state_confusion(
    true: NDArray[np.integer[Any]], predicted: NDArray[np.int64], states: int
) -> NDArray[np.int64]:
    """Counts [S, S], true states in rows; ids [A] from 1, objects of unknown state (0) are left out."""
    known = true > 0
    matrix = np.zeros((states, states), np.int64)
    np.add.at(matrix, (true[known] - 1, predicted[known] - 1), 1)
    return matrix


def score_states(matrix: NDArray[np.int64], names: list[str]) -> StateScores:
    """Precision, recall and F1 per state from the confusion matrix [S, S]; None for 0 / 0."""
    hits, true, predicted = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    f1 = safe_divide(2 * hits, np.where(true > 0, true + predicted, 0))
    rows = [
        {
            "state": name,
            "objects": int(true[index]),
            "precision": none_if_nan(safe_divide(hits[index], predicted[index])),
            "recall": none_if_nan(safe_divide(hits[index], true[index])),
            "F1": none_if_nan(f1[index]),
        }
        for index, name in enumerate(names)
    ]
    return StateScores(none_if_nan(nanmean(f1, (0,))), rows)


def bootstrap_macro_f1(
    true: NDArray[np.integer[Any]],
    predicted: NDArray[np.int64],
    images: NDArray[np.integer[Any]],
    states: int,
    weights: NDArray[np.integer[Any]],
) -> NDArray[np.float64]:
    """Macro F1 [B] per bootstrap sample; true, predicted, images [A]: states and image index of each object."""
    known = true > 0
    counts = np.zeros((3, weights.shape[1], states))  # correct, true, predicted
    for row, ids, mask in ((0, true, known & (true == predicted)), (1, true, known), (2, predicted, known)):
        np.add.at(counts[row], (images[mask], ids[mask] - 1), 1)
    correct, objects, predictions = (weigh(weights, column) for column in counts)  # [B, S]
    return nanmean(safe_divide(2 * correct, np.where(objects > 0, objects + predictions, 0)), (1,))


def roc_curve(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> list[list[float]]:
    """[false positive rate, recall] from the highest score [A] down; empty unless there are both kinds of objects."""
    true_positives, false_positives = _cumulate(scores, positive)
    if not true_positives[-1] or not false_positives[-1]:
        return []
    rates = [false_positives / false_positives[-1], true_positives / true_positives[-1]]
    return _thin(np.stack(rates, axis=1))


def precision_recall_curve(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> list[list[float]]:
    """[recall, precision] from the highest score [A] down; empty without a positive object."""
    true_positives, false_positives = _cumulate(scores, positive)
    if not true_positives[-1]:
        return []
    true_positives, false_positives = true_positives[1:], false_positives[1:]
    recall = true_positives / true_positives[-1]
    precision = true_positives / (true_positives + false_positives)
    return _thin(np.stack([recall, precision], axis=1))


def _cumulate(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The number of positive and of negative objects that reach each distinct score, from none to all."""
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True)[: len(scores)]) + 1
    true_positives = np.append(0, np.cumsum(positive[order]))[np.append(0, last)]
    return true_positives, np.append(0, last) - true_positives


def _thin(points: NDArray[np.float64]) -> list[list[float]]:
    """At most CURVE_POINTS of the points [K, 2], evenly along the curve, including the first and the last.

    Evenly by their number they would miss the corners: the few objects of a rare state are a few of many points.
    """
    if len(points) > CURVE_POINTS:
        length = np.append(0, np.abs(np.diff(points, axis=0)).sum(axis=1).cumsum())
        chosen = np.searchsorted(length, np.linspace(0, length[-1], CURVE_POINTS))
        points = points[np.unique(chosen)]
    return [[float(x), float(y)] for x, y in points]
