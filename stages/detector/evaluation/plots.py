"""Plots of an evaluation: curves and confusion matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from detector.plotting.palette import palette_color
from detector.plotting.style import save_figure


def draw_precision_recall(
    curves: dict[str, NDArray[np.float64]],
    path: Path,
    *,
    threshold: float | None,
    precision: float | None,
    recall: float | None,
) -> None:
    """Precision at IoU 0.5 over 101 recalls, one curve per class, and the operating point over all classes."""
    figure, axes = plt.subplots(figsize=(5.2, 4.4))
    recalls = np.linspace(0, 1, 101)
    for index, (name, values) in enumerate(curves.items()):
        axes.plot(recalls, values, color=palette_color(index), label=f"{name}  {values.mean():.2f}")
    if precision is not None and recall is not None:
        label = "per-class thresholds" if threshold is None else f"threshold {threshold:.2f}"
        axes.plot(recall, precision, "k*", markersize=11, label=label)
    axes.set(title="Precision-recall curve at IoU 0.5", xlabel="Recall", ylabel="Precision")
    axes.set(xlim=(0, 1.01), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    if curves:
        axes.legend(title="class  AP50", loc="lower left")
    save_figure(figure, path)


def draw_confusion(matrix: NDArray[Any], names: list[str], path: Path, *, title: str, xlabel: str, ylabel: str) -> None:
    """Counts [K, K], true in rows and predicted in columns, colored by fraction of the row."""
    fractions = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    side = 2.2 + 0.55 * len(names)
    figure, axes = plt.subplots(figsize=(side + 1, side))
    image = axes.imshow(fractions, vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=35, ha="right")
    axes.set_yticks(range(len(names)), names)
    for row, column in np.ndindex(*matrix.shape):
        if matrix[row, column]:
            color = "w" if fractions[row, column] > 0.6 else "k"
            axes.text(column, row, f"{int(matrix[row, column])}", ha="center", va="center", color=color)
    axes.set(title=title, xlabel=xlabel, ylabel=ylabel)
    figure.colorbar(image, label="Fraction of the row")
    save_figure(figure, path)


def draw_reliability(bins: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Precision by score: on the diagonal where scores are calibrated; and the number of detections."""
    figure, (axes, histogram) = plt.subplots(2, 1, figsize=(4.6, 5), sharex=True, height_ratios=[3, 1])
    filled = [row for row in bins if row["count"]]
    axes.plot([0, 1], [0, 1], color="0.6", ls=":", label="perfect calibration")
    axes.plot([row["confidence"] for row in filled], [row["accuracy"] for row in filled], "o-", label="detections")
    axes.set(title="Reliability diagram", ylabel="Precision", xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(loc="upper left")
    edges = [row["low"] for row in bins]
    histogram.bar(edges, [row["count"] for row in bins], width=1 / max(1, len(bins)), align="edge", edgecolor="w")
    histogram.set(xlabel="Score", ylabel="Detections")
    for each in (axes, histogram):
        each.grid(alpha=0.3)
    save_figure(figure, path)


def draw_state_curves(
    roc: Mapping[str, Sequence[Sequence[float]]], precision_recall: Mapping[str, Sequence[Sequence[float]]], path: Path
) -> None:
    """ROC and precision-recall curves per state, given the true boxes."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 4))
    left.plot([0, 1], [0, 1], color="0.6", ls=":")
    for axes, curves in ((left, roc), (right, precision_recall)):
        for index, (name, points) in enumerate(curves.items()):
            if points:
                axes.plot(*np.array(points).T, color=palette_color(index), label=name)
        axes.grid(alpha=0.3)
    left.set(title="ROC curve per state", xlabel="False positive rate", ylabel="True positive rate")
    left.set(xlim=(0, 1), ylim=(0, 1.02))
    right.set(title="Precision-recall curve per state", xlabel="Recall", ylabel="Precision")
    right.set(xlim=(0, 1.01), ylim=(0, 1.02))
    if any(roc.values()):
        left.legend(loc="lower right")
    save_figure(figure, path)
