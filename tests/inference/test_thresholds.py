"""Thresholds on the uncalibrated and on the calibrated score."""

from __future__ import annotations

import numpy as np
import pytest

from detector.engine.detections import Detections
from detector.inference.thresholds import apply_thresholds
from detector.runners.tiled import ModelMetadata

METADATA = ModelMetadata(
    model="m",
    classes=["a", "b"],
    states=[],
    size=(64, 64),
    fill=(0, 0, 0),
    data="",
    threshold={"a": 0.5, "b": 0.2},
    temperature=0.5,
)


def make_detections(scores: list[float], labels: list[int]) -> Detections:
    count = len(scores)
    return Detections(
        np.zeros((count, 4)),
        np.array(scores, np.float32),
        np.array(labels, np.int64),
        np.arange(count),
        np.zeros(count, np.float32),
    )


def test_thresholds_per_class_apply_to_the_uncalibrated_score() -> None:
    chosen = apply_thresholds(make_detections([0.6, 0.5, 0.4, 0.3, 0.19], [1, 1, 1, 2, 2]), METADATA)
    assert chosen.states.tolist() == [0, 1, 3]
    assert chosen.scores.tolist() == pytest.approx([0.69231, 0.5, 0.15517]), "calibrated"
    assert apply_thresholds(make_detections([], []), METADATA).scores.tolist() == []


def test_a_given_threshold_applies_to_the_calibrated_score() -> None:
    chosen = apply_thresholds(make_detections([0.6, 0.5, 0.4, 0.3], [1, 1, 1, 2]), METADATA, 0.3)
    assert chosen.states.tolist() == [0, 1, 2]
    assert (chosen.scores >= np.float32(0.3)).all()


def test_without_calibration_scores_are_unchanged() -> None:
    chosen = apply_thresholds(
        make_detections([0.73911, 0.7391, 0.25], [1, 1, 2]), METADATA.model_copy(update={"temperature": 1.0})
    )
    assert chosen.scores.tolist() == pytest.approx([0.73911, 0.7391, 0.25])


def test_scores_are_rounded_to_five_digits_before_the_comparison() -> None:
    metadata = METADATA.model_copy(update={"threshold": {"a": 0.73911, "b": 0.2}})
    assert apply_thresholds(make_detections([0.7391051, 0.7391049], [1, 1]), metadata).states.tolist() == [0]
