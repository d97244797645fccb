"""The plots and the console output of the evaluate stage, also with next to no data."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from detector.evaluation.error_types import analyze_errors
from detector.evaluation.matched_split import choose_thresholds
from detector.evaluation.metrics import compute_metrics
from detector.evaluation.plot_files import write_plots
from tests.support.coco_cases import make_coco_case
from tests.support.packed import split_rows

PLOTS = ("precision_recall", "confusion", "reliability")


@pytest.mark.parametrize("states", [True, False])
@pytest.mark.parametrize("detections", [0, 8])
@pytest.mark.parametrize("per_class", [True, False])
def test_plots_of_any_result(states: bool, detections: int, per_class: bool, tmp_path: Path) -> None:
    test = split_rows(*make_coco_case(1, images=4, detections=detections, states=states))
    objects = int((~test.labels.objects.crowds).sum())
    thresholds = choose_thresholds(test, "f1", per_class, 10)
    scores = np.full((objects, 3 if states else 0), 1 / 3)
    metrics = compute_metrics(test, test, thresholds, state_scores=scores, cost_ratio=10, bootstrap_samples=100)
    analysis = analyze_errors(test.labels, test.predictions, test.matches)
    numbers, pictures = tmp_path / "numbers", tmp_path / "pictures"
    write_plots(numbers, pictures, test=test, analysis=analysis, thresholds=thresholds, metrics=metrics)
    headline = metrics.format_headline()
    assert headline.startswith("AP 0.")
    assert ("states:" in headline) == states
    for name, note in metrics.details["notes"].items():
        assert f"note: {name}: {note}" in headline
    for name in PLOTS:
        assert isinstance(json.loads((numbers / f"{name}.json").read_text()), list)
        assert (pictures / f"{name}.png").stat().st_size > 1000
    rows = json.loads((numbers / "thresholds.json").read_text())
    assert [row["threshold"] for row in rows] == [step / 100 for step in range(len(rows))]
    assert bool(rows) == bool(detections)
    assert [row["recall"] for row in rows] == sorted((row["recall"] for row in rows), reverse=True)
    known = (test.labels.objects.states > 0) & ~test.labels.objects.crowds
    cells = json.loads((numbers / "state_confusion.json").read_text())
    assert sum(cell["count"] for cell in cells) == (known.sum() if states else 0)
    assert (pictures / "state_curves.png").exists() == states
