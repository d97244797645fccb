"""Thresholds on the uncalibrated and on the calibrated score."""

from __future__ import annotations

import numpy as np
import pytest

from detector.core.errors import UserError
from detector.engine.detections import Detections
from detector.inference.thresholds import apply_thresholds, choose_classes
from detector.runners.model_metadata import ModelMetadata

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


@pytest.mark.parametrize("threshold", [None, 0.1])
def test_only_the_chosen_classes_are_kept(threshold: float | None) -> None:
    detections = make_detections([0.6, 0.5, 0.4], [1, 2, 2])
    assert apply_thresholds(detections, METADATA, threshold, {2}).states.tolist() == [1, 2]
    assert apply_thresholds(detections, METADATA, threshold, set()).states.tolist() == []


def test_classes_are_chosen_by_name() -> None:
    assert choose_classes(["a, b", "c,a"], ["a", "a, b", "c"]) == {1, 2, 3}
    many = [f"class {number}" for number in range(100)]
    with pytest.raises(
        UserError, match=r"'clas 7' is no class.* mean 'class 7'\? It has class 0, .*, class 19 … \(100 in"
    ):
        choose_classes(["clas 7"], many)
