"""Plots of an evaluation: curves and confusion matrices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from detector.evaluation.confusion import BACKGROUND_NAME, describe_folding, fold_confusions, normalize_confusions
from detector.plotting.names import shorten_name
from detector.plotting.palette import PALETTE, palette_color
from detector.plotting.style import save_figure

MAX_CURVES = len(PALETTE)  # more curves cannot be told apart
EXTREME_CURVES = 3  # of more classes, the best and the worst that are drawn
ROOMY_MATRIX = 12  # rows up to which the cells of a matrix have their full size


def draw_precision_recall(
    curves: dict[str, NDArray[np.float64]],
    path: Path,
    *,
    threshold: float | None,
    precision: float | None,
    recall: float | None,
) -> None:
    """Precision at IoU 0.5 over 101 recalls, one curve per class, and the operating point over all classes.

    Of more than MAX_CURVES classes: their mean, the range of the middle half, and the worst and the best of them.
    """
    figure, axes = plt.subplots(figsize=(7.4, 4.4))
    recalls = np.linspace(0, 1, 101)
    shown = list(curves)
    if len(curves) > MAX_CURVES:
        values = np.stack(list(curves.values()))  # [class, recall]
        mean, label = values.mean(axis=0), f"mean of {len(curves):,} classes  {values.mean():.2f}"
        axes.plot(recalls, mean, color="k", lw=2.5, label=label)
        axes.fill_between(
            recalls, *np.quantile(values, (0.25, 0.75), axis=0), color="0.85", label="middle half of them"
        )
        ranked = sorted(curves, key=lambda name: -float(curves[name].mean()))
        shown = [*ranked[:EXTREME_CURVES], *ranked[-EXTREME_CURVES:]]
    for index, name in enumerate(shown):
        label = f"{shorten_name(name, 24)}  {curves[name].mean():.2f}"
        axes.plot(recalls, curves[name], color=palette_color(index), lw=1.5, label=label)
    if precision is not None and recall is not None:
        label = "per-class thresholds" if threshold is None else f"threshold {threshold:.2f}"
        axes.plot(recall, precision, "k*", markersize=11, label=label)
    axes.set(title="Precision-recall curve at IoU 0.5", xlabel="Recall", ylabel="Precision")
    axes.set(xlim=(0, 1.01), ylim=(0, 1.02))
    axes.grid(alpha=0.3)
    if curves:
        axes.legend(title="class  AP50", loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    save_figure(figure, path)


def draw_confusion(matrix: NDArray[Any], names: list[str], path: Path, *, title: str, noun: str) -> None:
    """Counts [K, K], true in rows and predicted in columns, colored by fraction of the row; folded if it is large.

    The background is no class with a number of its own: its row has the false detections, colored by their fraction
    of all detections of the class, so that a few of them look like a few.
    """
    counts, shown = fold_confusions(matrix, names)
    fractions = normalize_confusions(counts, shown)
    crowded = len(shown) > ROOMY_MATRIX
    side = 2.2 + (0.35 if crowded else 0.55) * len(shown)
    figure, axes = plt.subplots(figsize=(side + 1, side))
    image = axes.imshow(fractions, vmin=0, vmax=1)
    labels = [shorten_name(name) for name in shown]
    axes.set_xticks(range(len(shown)), labels, rotation=90 if crowded else 35, ha="center" if crowded else "right")
    axes.set_yticks(range(len(shown)), labels)
    for row, column in np.argwhere(counts).tolist():
        color = "w" if fractions[row, column] > 0.6 else "k"
        text = axes.text(column, row, f"{int(counts[row, column])}", ha="center", va="center", color=color)
        text.set(in_layout=False, fontsize=6 if crowded else None)
    axes.set(title=title + describe_folding(names), xlabel=f"Predicted {noun}", ylabel=f"True {noun}")
    below = "; background: of the column" if shown[-1] == BACKGROUND_NAME else ""
    figure.colorbar(image, label=f"Fraction of the row{below}")
    save_figure(figure, path)


def draw_reliability(
    raw_bins: Sequence[Mapping[str, Any]], calibrated_bins: Sequence[Mapping[str, Any]], path: Path
) -> None:
    """Precision by score, of the model's own and of the calibrated ones, which belong on the diagonal; and how many."""
    figure, (axes, histogram) = plt.subplots(2, 1, figsize=(4.6, 5), sharex=True, height_ratios=[3, 1])
    axes.plot([0, 1], [0, 1], color="0.6", ls=":", label="perfect calibration")
    for bins, style, label in ((raw_bins, "o--", "the model's scores"), (calibrated_bins, "o-", "calibrated scores")):
        filled = [row for row in bins if row["count"]]
        color = palette_color(0) if bins is calibrated_bins else "0.6"
        confidences, accuracies = ([row[key] for row in filled] for key in ("confidence", "accuracy"))
        axes.plot(confidences, accuracies, style, color=color, label=label)
    axes.set(title="Reliability diagram", ylabel="Precision", xlim=(0, 1), ylim=(0, 1.02))
    axes.legend(loc="upper left")
    edges, heights = ([row[key] for row in calibrated_bins] for key in ("low", "count"))
    histogram.bar(edges, heights, width=1 / max(1, len(calibrated_bins)), align="edge", edgecolor="w")
    histogram.set(xlabel="Calibrated score", ylabel="Detections")
    for each in (axes, histogram):
        each.grid(alpha=0.3)
    save_figure(figure, path)


def draw_state_curves(
    roc: Mapping[str, Sequence[Sequence[float]]], precision_recall: Mapping[str, Sequence[Sequence[float]]], path: Path
) -> None:
    """ROC and precision-recall curves per state, given the true boxes; of the MAX_CURVES worst where there are more."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8.4, 4))
    left.plot([0, 1], [0, 1], color="0.6", ls=":")
    drawn = [name for name, points in precision_recall.items() if points]
    shown = sorted(drawn, key=lambda name: _mean_height(precision_recall[name]))[:MAX_CURVES]
    for axes, curves in ((left, roc), (right, precision_recall)):
        for index, name in enumerate(name for name in drawn if name in shown):
            if curves[name]:
                axes.plot(*np.array(curves[name]).T, color=palette_color(index), label=shorten_name(name))
        axes.grid(alpha=0.3)
    note = f": {len(shown)} of {len(drawn):,} with the lowest precision" if len(shown) < len(drawn) else ""
    left.set(title="ROC curve per state" + note, xlabel="False positive rate", ylabel="True positive rate")
    left.set(xlim=(0, 1), ylim=(0, 1.02))
    right.set(title="Precision-recall curve per state", xlabel="Recall", ylabel="Precision")
    right.set(xlim=(0, 1.01), ylim=(0, 1.02))
    if any(roc.values()):
        left.legend(loc="lower right")
    save_figure(figure, path)


def _mean_height(points: Sequence[Sequence[float]]) -> float:
    return sum(height for _, height in points) / len(points)
