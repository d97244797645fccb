"""Pictures of an evaluation: curves and confusions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from detector.plotting.boxes_on_images import colour
from detector.plotting.style import save_figure


def draw_precision_recall(
    curves: dict[str, NDArray[np.float64]], threshold: float | None, precision: float | None, recall: float | None,
    path: Path,
) -> None:  # fmt: skip
    """Precision at IoU 0.5 over 101 recalls, a curve a class, and what all classes reach at the threshold."""
    figure, axes = plt.subplots(figsize=(5.2, 4.4))
    recalls = np.linspace(0, 1, 101)
    for index, (name, values) in enumerate(curves.items()):
        axes.plot(recalls, values, color=colour(index), label=f"{name}  {values.mean():.2f}")
    if precision is not None and recall is not None:
        label = "thresholds by class" if threshold is None else f"threshold {threshold:.2f}"
        axes.plot(recall, precision, "k*", markersize=11, label=label)
    axes.set(
        title="Precision and recall at IoU 0.5",
        xlabel="recall",
        ylabel="precision",
        xlim=(0, 1.01),
        ylim=(0, 1.02),
    )
    axes.grid(alpha=0.3)
    if curves:
        axes.legend(title="class  AP50", loc="lower left")
    save_figure(figure, path)


def draw_confusion(matrix: NDArray[Any], names: list[str], title: str, columns: str, path: Path) -> None:
    """Counts [K, K]: what was there (rows) and what was said (columns), coloured by share of the row."""
    shares = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    side = 2.2 + 0.55 * len(names)
    figure, axes = plt.subplots(figsize=(side + 1, side))
    picture = axes.imshow(shares, vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=35, ha="right")
    axes.set_yticks(range(len(names)), names)
    for row, column in np.ndindex(*matrix.shape):
        if matrix[row, column]:
            ink = "w" if shares[row, column] > 0.6 else "k"
            axes.text(column, row, f"{int(matrix[row, column])}", ha="center", va="center", color=ink)
    axes.set(title=title, xlabel=columns, ylabel="was there")
    figure.colorbar(picture, label="share of the row")
    save_figure(figure, path)


def draw_reliability(bins: Sequence[Mapping[str, Any]], path: Path) -> None:
    """How many detections of a score are right: on the diagonal where the score means what it says."""
    figure, (axes, below) = plt.subplots(2, 1, figsize=(4.6, 5), sharex=True, height_ratios=[3, 1])
    filled = [one for one in bins if one["count"]]
    axes.plot([0, 1], [0, 1], color="0.6", ls=":", label="score = share")
    axes.plot([one["confidence"] for one in filled], [one["accuracy"] for one in filled], "o-", label="detections")
    axes.set(title="Reliability of the scores", ylabel="share that is right", xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(loc="upper left")
    edges = [one["low"] for one in bins]
    below.bar(edges, [one["count"] for one in bins], width=1 / max(1, len(bins)), align="edge", edgecolor="w")
    below.set(xlabel="score", ylabel="detections")
    for each in (axes, below):
        each.grid(alpha=0.3)
    save_figure(figure, path)


def draw_state_curves(
    roc: Mapping[str, Sequence[Sequence[float]]], precision_recall: Mapping[str, Sequence[Sequence[float]]], path: Path
) -> None:
    """ROC and precision against recall, a curve a state, given the true boxes."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 4))
    left.plot([0, 1], [0, 1], color="0.6", ls=":")
    for axes, curves in ((left, roc), (right, precision_recall)):
        for index, (name, points) in enumerate(curves.items()):
            if points:
                axes.plot(*np.array(points).T, color=colour(index), label=name)
        axes.grid(alpha=0.3)
    left.set(title="ROC of the states", xlabel="false positive rate", ylabel="recall", xlim=(0, 1), ylim=(0, 1.02))
    right.set(title="Precision and recall of the states", xlabel="recall", ylabel="precision", xlim=(0, 1.01),
              ylim=(0, 1.02))  # fmt: skip
    if any(roc.values()):
        left.legend(loc="lower right")
    save_figure(figure, path)
