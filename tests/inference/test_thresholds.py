"""Which detections count, by the raw score or by the one that people see."""

from __future__ import annotations

import numpy as np
import pytest

from detector.engine.detections import Detections
from detector.inference.thresholds import counted
from detector.runners.tiled import ModelMetadata

FACTS = ModelMetadata("m", ["a", "b"], [], (64, 64), (0, 0, 0), "", threshold={"a": 0.5, "b": 0.2}, temperature=0.5)


def found(scores: list[float], labels: list[int]) -> Detections:
    count = len(scores)
    return Detections(np.zeros((count, 4)), np.array(scores, np.float32), np.array(labels, np.int64),
                 np.arange(count), np.zeros(count, np.float32))  # fmt: skip


def test_each_class_has_its_threshold_of_the_raw_score() -> None:
    chosen = counted(found([0.6, 0.5, 0.4, 0.3, 0.19], [1, 1, 1, 2, 2]), FACTS)
    assert chosen.states.tolist() == [0, 1, 3]
    assert chosen.scores.tolist() == pytest.approx([0.69231, 0.5, 0.15517]), "calibrated"
    assert counted(found([], []), FACTS).scores.tolist() == []


def test_a_number_is_compared_with_the_calibrated_score() -> None:
    chosen = counted(found([0.6, 0.5, 0.4, 0.3], [1, 1, 1, 2]), FACTS, 0.3)
    assert chosen.states.tolist() == [0, 1, 2]
    assert (chosen.scores >= np.float32(0.3)).all()


def test_without_calibration_scores_stay() -> None:
    chosen = counted(found([0.73911, 0.7391, 0.25], [1, 1, 2]), FACTS._replace(temperature=1.0))
    assert chosen.scores.tolist() == pytest.approx([0.73911, 0.7391, 0.25])


def test_a_threshold_was_chosen_on_scores_of_five_digits() -> None:
    facts = FACTS._replace(threshold={"a": 0.73911, "b": 0.2})
    assert counted(found([0.7391051, 0.7391049], [1, 1]), facts).states.tolist() == [0]
