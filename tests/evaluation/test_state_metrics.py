"""Metrics of states, given the true boxes."""

from __future__ import annotations

import numpy as np
import pytest

from detector.evaluation.state_metrics import (
    CURVE_POINTS,
    bootstrap_macro_f1,
    compute_state_confusion,
    precision_recall_curve,
    roc_curve,
    score_states,
)


def test_confusion_leaves_out_unknown_states() -> None:
    matrix = compute_state_confusion(np.array([1, 1, 2, 0, 2]), np.array([1, 2, 2, 1, 2]), 3)
    assert matrix.tolist() == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]


def test_scores_by_hand() -> None:
    numbers = score_states(np.array([[1, 1, 0], [0, 2, 0], [0, 0, 0]]), ["whole", "gone", "never"])
    assert numbers.rows == [
        {"state": "whole", "objects": 2, "precision": 1.0, "recall": 0.5, "F1": pytest.approx(2 / 3)},
        {"state": "gone", "objects": 2, "precision": pytest.approx(2 / 3), "recall": 1.0, "F1": 0.8},
        {"state": "never", "objects": 0, "precision": None, "recall": None, "F1": None},
    ]
    assert numbers.macro_f1 == pytest.approx((2 / 3 + 0.8) / 2)  # a state that does not occur is left out


def test_no_known_state() -> None:
    assert score_states(np.zeros((2, 2), np.int64), ["a", "b"]).macro_f1 is None


def test_bootstrap_macro_f1_equals_that_of_the_objects_drawn() -> None:
    random = np.random.default_rng(0)
    true, predicted, images = random.integers(0, 4, 60), random.integers(1, 4, 60), random.integers(0, 7, 60)
    weights = random.integers(0, 3, (20, 7)).astype(np.int32)
    weights[0], weights[1] = 1, 0
    replicates = bootstrap_macro_f1(true, predicted, images, 3, weights)
    for draw, sample in zip(weights, replicates, strict=True):
        drawn = np.repeat(np.arange(60), draw[images])
        expected = score_states(compute_state_confusion(true[drawn], predicted[drawn], 3), ["a", "b", "c"]).macro_f1
        assert np.isnan(sample) if expected is None else sample == pytest.approx(expected, abs=1e-12)


def test_curves_by_hand() -> None:
    scores, positive = np.array([0.9, 0.8, 0.8, 0.1]), np.array([True, False, True, False])
    # The two scores of 0.8 count together: no threshold separates them.
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
    assert len(points) <= CURVE_POINTS
    assert (points[0], points[-1]) == ([0, 0], [1, 1])


def test_a_thinned_curve_keeps_the_corners_of_a_rare_state() -> None:
    """All 50 objects of the state come first: precision stays 1 up to recall 1, then falls."""
    scores = np.linspace(1, 0, 100_000)
    positive = np.arange(len(scores)) < 50
    for points, corner in ((precision_recall_curve(scores, positive), [1, 1]), (roc_curve(scores, positive), [0, 1])):
        assert len(points) <= CURVE_POINTS
        assert np.abs(np.array(points) - corner).sum(axis=1).min() < 0.03
