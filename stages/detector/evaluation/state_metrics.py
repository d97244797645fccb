"""How well the states of objects are told, given where the objects are."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.intervals import mean_over, number, share

CURVE_POINTS = 200  # at most, of a curve that is written to a file


class StateNumbers(NamedTuple):
    """macro_f1: mean F1 of the states that occur, None when none does; rows: a dictionary a state."""

    macro_f1: float | None
    rows: list[dict[str, Any]]


def confusion_of_states(true: NDArray[np.int64], found: NDArray[np.int64], states: int) -> NDArray[np.int64]:
    """Counts [S, S], true states in rows; ids [A] from 1, objects of unknown state (0) are left out."""
    known = true > 0
    matrix = np.zeros((states, states), np.int64)
    np.add.at(matrix, (true[known] - 1, found[known] - 1), 1)
    return matrix


def state_numbers(matrix: NDArray[np.int64], names: list[str]) -> StateNumbers:
    """Precision, recall and F1 of each state from its confusions [S, S]; None where there is nothing to divide by."""
    hits, true, found = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    f1 = share(2 * hits, np.where(true > 0, true + found, 0))
    rows = [
        {
            "state": name,
            "objects": int(true[index]),
            "precision": number(share(hits[index], found[index])),
            "recall": number(share(hits[index], true[index])),
            "F1": number(f1[index]),
        }
        for index, name in enumerate(names)
    ]
    return StateNumbers(number(mean_over(f1, (0,))), rows)


def macro_f1_of_draws(
    true: NDArray[np.int64], found: NDArray[np.int64], images: NDArray[np.int64], states: int, times: NDArray[np.int32]
) -> NDArray[np.float64]:
    """Macro F1 for each draw of the images [B]; true, found, images [A]: of each object, its image's place in times."""
    known = true > 0
    counts = np.zeros((3, times.shape[1], states))  # right, true, found
    for row, ids, mask in ((0, true, known & (true == found)), (1, true, known), (2, found, known)):
        np.add.at(counts[row], (images[mask], ids[mask] - 1), 1)
    right, there, said = (times @ column for column in counts)  # [B, S]
    return mean_over(share(2 * right, np.where(there > 0, there + said, 0)), (1,))


def roc_curve(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> list[list[float]]:
    """[false positive rate, recall] from the highest score [A] down; empty without both kinds of objects."""
    rights, wrongs = _cumulated(scores, positive)
    if not rights[-1] or not wrongs[-1]:
        return []
    return _thinned(np.stack([wrongs / wrongs[-1], rights / rights[-1]], axis=1))


def precision_recall_curve(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> list[list[float]]:
    """[recall, precision] from the highest score [A] down; empty without a positive object."""
    rights, wrongs = _cumulated(scores, positive)
    if not rights[-1]:
        return []
    rights, wrongs = rights[1:], wrongs[1:]
    return _thinned(np.stack([rights / rights[-1], rights / (rights + wrongs)], axis=1))


def _cumulated(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many positive and how many other objects reach each score, from none to all."""
    order = np.argsort(-scores, kind="stable")
    ranked = positive[order]
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True)[: len(scores)]) + 1
    rights = np.append(0, np.cumsum(ranked))[np.append(0, last)]
    return rights, np.append(0, last) - rights


def _thinned(points: NDArray[np.float64]) -> list[list[float]]:
    """At most CURVE_POINTS of the points, the first and the last among them."""
    if len(points) > CURVE_POINTS:
        points = points[np.linspace(0, len(points) - 1, CURVE_POINTS).round().astype(int)]
    return [[float(x), float(y)] for x, y in points]
