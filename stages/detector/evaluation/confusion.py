"""Confusion matrices of any number of classes, small enough to be drawn and listed.

background: whether the last name is that of the background; by the name alone it could be a state like any other.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

BACKGROUND_NAME = "background"  # of the last row and column of a class matrix: no object, no detection
MAX_NAMES = 40  # a larger matrix shows the most confused ones


def fold_confusions(matrix: NDArray[Any], names: list[str], *, background: bool) -> tuple[NDArray[Any], list[str]]:
    """At most MAX_NAMES of the rows and columns of a confusion matrix [K, K], true in rows, and their names.

    Kept are the most confused ones, in their order, and the background. All others are added up in one row and
    column, so that the sum of the counts remains.
    """
    count = len(names) - background
    if count <= MAX_NAMES:
        return matrix, names
    confusions = matrix.sum(axis=0) + matrix.sum(axis=1) - 2 * matrix.diagonal()
    kept = np.sort(np.argsort(-confusions[:count], kind="stable")[:MAX_NAMES])
    places = np.full(len(names), MAX_NAMES)
    places[kept] = np.arange(MAX_NAMES)
    if background:
        places[-1] = MAX_NAMES + 1
    folded = np.zeros((MAX_NAMES + 1 + background,) * 2, matrix.dtype)
    rows, columns = np.nonzero(matrix)
    np.add.at(folded, (places[rows], places[columns]), matrix[rows, columns])
    others = [f"{count - MAX_NAMES:,} others"]
    return folded, [*(names[index] for index in kept), *others, *([BACKGROUND_NAME] if background else [])]


def describe_folding(names: list[str], *, background: bool) -> str:
    """For titles: what `fold_confusions` keeps of the names, "" for all."""
    count = len(names) - background
    return f": the {MAX_NAMES} most confused of {count:,}" if count > MAX_NAMES else ""


def normalize_confusions(counts: NDArray[Any], *, background: bool) -> NDArray[np.float64]:
    """Each count [K, K] as a fraction of its row, 0..1; in the row of the background, of its column.

    False detections of a class are so many of its detections; of each other they say nothing.
    """
    fractions: NDArray[np.float64] = counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    if background:
        fractions[-1] = counts[-1] / np.maximum(1, counts.sum(axis=0))
    return fractions


def list_confusions(matrix: NDArray[Any], names: list[str], *, background: bool) -> list[dict[str, Any]]:
    """The cells of the folded matrix that are not 0, for DVC's plots (.dvc/plots/confusion.json)."""
    folded, shown = fold_confusions(matrix, names, background=background)
    fractions = normalize_confusions(folded, background=background).round(6)
    return [
        {
            "row": row,
            "column": column,
            "actual": shown[row],
            "predicted": shown[column],
            "count": int(folded[row, column]),
            "fraction": float(fractions[row, column]),
        }
        for row, column in np.argwhere(folded).tolist()
    ]
