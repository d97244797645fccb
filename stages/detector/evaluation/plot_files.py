"""The plots of the evaluate stage: pictures, and the numbers that DVC's charts are drawn from."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from detector.evaluation.bootstrap import compute_precision_curves
from detector.evaluation.calibration import calibrate_matches
from detector.evaluation.confusion import BACKGROUND_NAME, list_confusions
from detector.evaluation.error_types import ErrorAnalysis, compute_confusion_matrix
from detector.evaluation.matched_split import MatchedSplit, Thresholds
from detector.evaluation.metrics import Metrics
from detector.evaluation.operating_point import tabulate_thresholds
from detector.evaluation.plots import draw_confusion, draw_precision_recall, draw_reliability, draw_state_curves
from detector.evaluation.writers import write_plot

STATE_TITLE = "State confusion matrix,\ngiven the true boxes"


def write_plots(
    numbers: Path,
    pictures: Path,
    *,
    test: MatchedSplit,
    analysis: ErrorAnalysis,
    thresholds: Thresholds,
    metrics: Metrics,
) -> None:
    """Write numbers/*.json, the same files for any dataset because dvc.yaml names them, and pictures/*.png."""
    classes = test.truth.names.classes
    precision = compute_precision_curves(test.matches)  # [recall, class], NaN for a class without objects
    curves = {name: precision[:, index] for index, name in enumerate(classes) if not np.isnan(precision[0, index])}
    mean = np.mean(list(curves.values()), axis=0)
    rows = [
        {"recall": round(float(recall), 2), "precision": round(float(value), 6)}
        for recall, value in zip(np.linspace(0, 1, 101), mean, strict=True)
    ]
    write_plot(numbers / "precision_recall.json", rows)
    point = {name: metrics.flat[name] for name in ("threshold", "precision", "recall")}
    draw_precision_recall(curves, pictures / "precision_recall.png", **point)
    matrix = compute_confusion_matrix(analysis, thresholds.by_class)
    names = [*classes, BACKGROUND_NAME]
    write_plot(numbers / "confusion.json", list_confusions(matrix, names, background=True))
    path = pictures / "confusion.png"
    draw_confusion(matrix, names, path, title="Confusion matrix", noun="class", background=True)
    calibration = metrics.details["calibration"]
    matches = calibrate_matches(test.matches, calibration["temperature"])
    write_plot(numbers / "thresholds.json", tabulate_thresholds(matches))
    bins = calibration["calibrated_bins"]
    reliability = [
        {"score": round(row["confidence"], 6), "precision": round(row["accuracy"], 6)} for row in bins if row["count"]
    ]
    write_plot(numbers / "reliability.json", reliability)
    draw_reliability(calibration["bins"], bins, pictures / "reliability.png")
    states = metrics.details["states"]
    if states is None:
        write_plot(numbers / "state_confusion.json", [])
        return
    matrix, path = np.array(states["confusion"]), pictures / "state_confusion.png"
    write_plot(numbers / "state_confusion.json", list_confusions(matrix, states["names"], background=False))
    draw_confusion(matrix, states["names"], path, title=STATE_TITLE, noun="state", background=False)
    draw_state_curves(states["roc"], states["precision_recall"], pictures / "state_curves.png")
