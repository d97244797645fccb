"""How well states are told."""

from __future__ import annotations

import numpy as np
import pytest

from detector.evaluation.state_metrics import (
    CURVE_POINTS,
    confusion_of_states,
    macro_f1_of_draws,
    precision_recall_curve,
    roc_curve,
    state_numbers,
)


def test_confusions_leave_out_the_unknown() -> None:
    matrix = confusion_of_states(np.array([1, 1, 2, 0, 2]), np.array([1, 2, 2, 1, 2]), 3)
    assert matrix.tolist() == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]


def test_numbers() -> None:
    numbers = state_numbers(np.array([[1, 1, 0], [0, 2, 0], [0, 0, 0]]), ["whole", "gone", "never"])
    assert numbers.rows == [
        {"state": "whole", "objects": 2, "precision": 1.0, "recall": 0.5, "F1": pytest.approx(2 / 3)},
        {"state": "gone", "objects": 2, "precision": pytest.approx(2 / 3), "recall": 1.0, "F1": 0.8},
        {"state": "never", "objects": 0, "precision": None, "recall": None, "F1": None},
    ]
    assert numbers.macro_f1 == pytest.approx((2 / 3 + 0.8) / 2)  # a state that does not occur says nothing


def test_no_known_state() -> None:
    assert state_numbers(np.zeros((2, 2), np.int64), ["a", "b"]).macro_f1 is None


def test_macro_f1_of_draws_is_that_of_the_objects_drawn() -> None:
    random = np.random.default_rng(0)
    true, found, images = random.integers(0, 4, 60), random.integers(1, 4, 60), random.integers(0, 7, 60)
    times = random.integers(0, 3, (20, 7)).astype(np.int32)
    times[0], times[1] = 1, 0
    samples = macro_f1_of_draws(true, found, images, 3, times)
    for draw, sample in zip(times, samples, strict=True):
        drawn = np.repeat(np.arange(60), draw[images])
        expected = state_numbers(confusion_of_states(true[drawn], found[drawn], 3), ["a", "b", "c"]).macro_f1
        assert np.isnan(sample) if expected is None else sample == pytest.approx(expected, abs=1e-12)


def test_curves_by_hand() -> None:
    scores, positive = np.array([0.9, 0.8, 0.8, 0.1]), np.array([True, False, True, False])
    # The two of 0.8 come together: no threshold lies between them.
    assert roc_curve(scores, positive) == [[0, 0], [0, 0.5], [0.5, 1], [1, 1]]
    assert precision_recall_curve(scores, positive) == [[0.5, 1], [1, pytest.approx(2 / 3)], [1, 0.5]]


@pytest.mark.parametrize("positive", [[], [True, True], [False, False]])
def test_a_curve_needs_both_kinds(positive: list[bool]) -> None:
    scores, mask = np.linspace(0, 1, len(positive)), np.array(positive, bool)
    assert roc_curve(scores, mask) == []
    assert (precision_recall_curve(scores, mask) == []) == (not any(positive))


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    scores = np.random.default_rng(0).random(5000)
    points = roc_curve(scores, scores > 0.5)
    assert len(points) == CURVE_POINTS
    assert (points[0], points[-1]) == ([0, 0], [1, 1])
