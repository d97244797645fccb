"""What the evaluate stage draws and says, also where there is next to nothing."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import evaluate
from detector.evaluation.error_types import pair
from detector.evaluation.matched_split import judge, thresholds_on
from detector.evaluation.metrics import measure
from tests.support.coco_cases import coco_case

DRAWN = ("precision_recall", "confusion", "reliability")


@pytest.mark.parametrize("states", [True, False])
@pytest.mark.parametrize("detections", [0, 8])
@pytest.mark.parametrize("per_class", [True, False])
def test_it_draws_whatever_was_found(
    states: bool, detections: int, per_class: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    test = judge(*coco_case(1, images=4, detections=detections, states=states))
    objects = sum(not a["iscrowd"] for a in test.coco["annotations"])
    thresholds = thresholds_on(test, "f1", per_class, 10)
    scores = np.full((objects, 3 if states else 0), 1 / 3)
    measured = measure(test, test, thresholds, scores, 10, 100)
    evaluate.draw(test, pair(test.coco, test.predictions, test.matches), thresholds, measured)
    said = measured.headline()
    assert said.startswith("AP 0.")
    assert ("states:" in said) == states
    for name, note in measured.details["notes"].items():
        assert f"note: {name}: {note}" in said
    for name in DRAWN:
        assert isinstance(json.loads((evaluate.PLOTS / f"{name}.json").read_text()), list)
        assert (evaluate.PLOTS / f"{name}.png").stat().st_size > 1000
    known = [a for a in test.coco["annotations"] if a["state"] and not a["iscrowd"]]
    assert len(json.loads((evaluate.PLOTS / "state_confusion.json").read_text())) == len(known)
    assert (evaluate.PLOTS / "state_curves.png").exists() == states
