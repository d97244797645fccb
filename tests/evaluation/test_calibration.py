"""Scores that mean what they say, and the temperature that makes them so."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.engine.coco_metrics import coco_numbers, evaluate_boxes
from detector.evaluation.calibration import (
    calibration_error,
    errors_of_draws,
    fit_temperature,
    reliability,
    rescaled,
    temperature_on,
    with_temperature,
)
from detector.evaluation.matching import Matches, matches_of
from tests.support.coco_cases import coco_case


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6))
def test_the_error_with_every_image_once_is_hotcocos(seed: int) -> None:
    coco, found = coco_case(seed)
    evaluation = evaluate_boxes(coco, found)
    once = errors_of_draws(matches_of(evaluation), np.ones((1, len(coco["images"])), np.int32))[0]
    error = calibration_error(evaluation)
    assert np.isnan(once) if error is None else once == pytest.approx(error, abs=1e-9)


def scored(scores: np.ndarray, right: np.ndarray) -> Matches:
    """Detections of one class, one an image."""
    order = np.argsort(-scores)
    count, zeros = len(scores), np.zeros(len(scores), np.int64)
    return Matches(
        scores[order], np.arange(count), zeros, np.tile(right[order], (10, 1)), np.zeros((10, count), bool),
        np.arange(count), zeros, np.ones((count, 1), np.int64), np.arange(count), np.array([1]),
    )  # fmt: skip


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_planted_temperature_is_found(temperature: float) -> None:
    random = np.random.default_rng(0)
    chances = random.uniform(0.02, 0.98, 40_000)
    right = random.random(40_000) < chances
    assert fit_temperature(scored(rescaled(chances, 1 / temperature), right)) == pytest.approx(temperature, rel=0.03)


@pytest.mark.parametrize("right", [[], [True, True], [False]])
def test_nothing_to_fit_by(right: list[bool]) -> None:
    assert fit_temperature(scored(np.full(len(right), 0.7), np.array(right, bool))) is None


@given(st.floats(0.05, 20), st.lists(st.floats(0, 1), min_size=2))
def test_rescaled_scores_are_chances_in_the_same_order(temperature: float, scores: list[float]) -> None:
    found = rescaled(np.sort(np.array(scores)), temperature)
    assert ((found >= 0) & (found <= 1)).all()
    assert (np.diff(found) >= 0).all()


def test_one_changes_nothing() -> None:
    scores = np.linspace(0.001, 0.999, 50)
    assert rescaled(scores, 1.0) == pytest.approx(scores, abs=1e-12)


def test_a_temperature_that_does_not_help_is_not_used() -> None:
    used = []
    for seed in range(12):
        coco, found = coco_case(seed)
        evaluation = evaluate_boxes(coco, found)
        result = temperature_on(coco, found, evaluation, matches_of(evaluation))
        assert result.error is not None
        assert result.error_after is not None
        assert result.used == (result.fitted if result.error_after < result.error else 1.0)
        assert bool(result.note) == (result.used == 1.0)
        used.append(result.used)
    assert any(one != 1.0 for one in used)


def test_ap_stays() -> None:
    coco, found = coco_case(3)
    before, after = (coco_numbers(evaluate_boxes(coco, each)) for each in (found, with_temperature(found, 1.7)))
    assert before == after


def test_empty_bins_say_nothing() -> None:
    coco, _ = coco_case(0)
    evaluation = evaluate_boxes(coco, [])
    assert calibration_error(evaluation) is None
    assert {(one["confidence"], one["accuracy"], one["count"]) for one in reliability(evaluation)} == {(None, None, 0)}
