"""How well the states of objects are told, given where the objects are."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class StateNumbers(NamedTuple):
    """macro_f1: mean F1 of the states that occur, None when none does; of_state: by name."""

    macro_f1: float | None
    of_state: dict[str, dict[str, float | int]]


def confusion_of_states(true: NDArray[np.int64], found: NDArray[np.int64], states: int) -> NDArray[np.int64]:
    """Counts [S, S], true states in rows; ids [A] from 1, objects of unknown state (0) are left out."""
    known = true > 0
    matrix = np.zeros((states, states), np.int64)
    np.add.at(matrix, (true[known] - 1, found[known] - 1), 1)
    return matrix


def state_numbers(matrix: NDArray[np.int64], names: list[str]) -> StateNumbers:
    """Precision, recall and F1 of each state from its confusions [S, S]; 0 where there is nothing to divide by."""
    hits, true, found = matrix.diagonal(), matrix.sum(axis=1), matrix.sum(axis=0)
    of_state: dict[str, dict[str, float | int]] = {}
    for index, name in enumerate(names):
        of_state[name] = {
            "objects": int(true[index]),
            "precision": float(hits[index] / max(1, found[index])),
            "recall": float(hits[index] / max(1, true[index])),
            "F1": float(2 * hits[index] / max(1, true[index] + found[index])),
        }
    occurring = [float(numbers["F1"]) for numbers in of_state.values() if numbers["objects"]]
    return StateNumbers(sum(occurring) / len(occurring) if occurring else None, of_state)
