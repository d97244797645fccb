"""Pictures of an evaluation: curves and confusions."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from numpy.typing import NDArray

from detector.evaluation.operating_point import OperatingPoint
from detector.plot_style import colour, save_figure

BACKGROUND = "background"


def draw_precision_recall(curves: dict[str, NDArray[np.float64]], point: OperatingPoint, path: Path) -> None:
    """Precision at IoU 0.5 over 101 recalls, a curve a class, and the operating point of all classes."""
    figure, axes = plt.subplots(figsize=(5.2, 4.4))
    recalls = np.linspace(0, 1, 101)
    for index, (name, precision) in enumerate(curves.items()):
        axes.plot(recalls, precision, color=colour(index), label=f"{name}  {precision.mean():.2f}")
    axes.plot(point.recall, point.precision, "k*", markersize=11, label=f"threshold {point.threshold:.2f}")
    axes.set(
        title="Precision and recall at IoU 0.5",
        xlabel="recall",
        ylabel="precision",
        xlim=(0, 1.01),
        ylim=(0, 1.02),
    )
    axes.grid(alpha=0.3)
    axes.legend(title="class  AP50", loc="lower left")
    save_figure(figure, path)


def draw_confusion(matrix: NDArray[np.uint64], classes: list[str], path: Path) -> None:
    """What was there (rows) and what was found (columns) at the operating threshold."""
    names = [*classes, BACKGROUND]
    shares = matrix / np.maximum(1, matrix.sum(axis=1, keepdims=True))
    side = 2.2 + 0.55 * len(names)
    figure, axes = plt.subplots(figsize=(side + 1, side))
    picture = axes.imshow(shares, vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=35, ha="right")
    axes.set_yticks(range(len(names)), names)
    for row, column in np.ndindex(*matrix.shape):
        if matrix[row, column]:
            dark = shares[row, column] > 0.6
            axes.text(
                column,
                row,
                f"{int(matrix[row, column])}",
                ha="center",
                va="center",
                color="w" if dark else "k",
            )
    axes.set(title="What was there, and what was found", xlabel="found", ylabel="was there")
    figure.colorbar(picture, label="share of the row")
    save_figure(figure, path)
