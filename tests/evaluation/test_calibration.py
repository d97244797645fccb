"""Calibration error, and the temperature that lowers it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.engine.detections import rescale_scores
from detector.evaluation.calibration import (
    bootstrap_ece,
    choose_temperature,
    compute_calibration_error,
    compute_reliability_bins,
    fit_temperature,
)
from detector.evaluation.matching import ALL_BITS, Matches
from tests.support.coco_cases import make_coco_case
from tests.support.packed import evaluate_rows, match_rows


@settings(max_examples=40)
@given(st.integers(0, 10**6))
def test_bootstrap_with_every_image_once_equals_hotcoco(seed: int) -> None:
    coco, found = make_coco_case(seed)
    matches, expected = match_rows(coco, found), evaluate_rows(coco, found).calibration(n_bins=10, iou_threshold=0.5)
    once = bootstrap_ece(matches, np.ones((1, len(coco["images"])), np.int32))[0]
    assert np.isnan(once) == (not expected["num_detections"])
    assert np.nan_to_num(once) == pytest.approx(expected["ece"], abs=1e-9)
    keys = {"low": "bin_lower", "high": "bin_upper", "confidence": "avg_confidence", "accuracy": "avg_accuracy"}
    for ours, theirs in zip(compute_reliability_bins(matches), expected["bins"], strict=True):
        assert ours["count"] == theirs["count"]
        for key, other in keys.items():
            assert ours[key] is None or ours[key] == pytest.approx(theirs[other], abs=1e-9)


def build_matches(scores: np.ndarray, correct: np.ndarray) -> Matches:
    """Detections of one class, one per image."""
    order = np.argsort(-scores)
    count, zeros = len(scores), np.zeros(len(scores), np.int64)
    return Matches(
        scores=scores[order],
        images=np.arange(count),
        categories=zeros,
        hit_bits=np.where(correct[order], ALL_BITS, 0).astype(np.uint16),
        ignored_bits=np.zeros(count, np.uint16),
        prediction_indices=np.arange(count),
        annotation_ids=zeros,
        object_counts=np.ones((count, 1), np.int64),
        image_ids=np.arange(count),
        category_ids=np.array([1]),
    )


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_a_known_temperature_is_recovered(temperature: float) -> None:
    random = np.random.default_rng(0)
    probabilities = random.uniform(0.02, 0.98, 40_000)
    correct = random.random(40_000) < probabilities
    matches = build_matches(rescale_scores(probabilities, 1 / temperature), correct)
    assert fit_temperature(matches) == pytest.approx(temperature, rel=0.03)


@pytest.mark.parametrize("correct", [[], [True, True], [False]])
def test_no_fit_without_both_correct_and_wrong(correct: list[bool]) -> None:
    assert fit_temperature(build_matches(np.full(len(correct), 0.7), np.array(correct, bool))) is None


@given(st.floats(0.05, 20), st.lists(st.floats(0, 1), min_size=2))
def test_rescaled_scores_stay_in_0_to_1_and_in_order(temperature: float, scores: list[float]) -> None:
    found = rescale_scores(np.sort(np.array(scores)), temperature)
    assert ((found >= 0) & (found <= 1)).all()
    assert (np.diff(found) >= 0).all()


def test_a_temperature_of_one_changes_nothing() -> None:
    scores = np.linspace(0.001, 0.999, 50)
    assert rescale_scores(scores, 1.0) == pytest.approx(scores, abs=1e-12)


def test_a_temperature_that_does_not_help_is_not_used() -> None:
    used = []
    for seed in range(12):
        coco, found = make_coco_case(seed)
        result = choose_temperature(match_rows(coco, found))
        assert result.error is not None
        assert result.error_after is not None
        assert result.used == (result.fitted if result.error_after < result.error else 1.0)
        assert bool(result.note) == (result.used == 1.0)
        used.append(result.used)
    assert any(one != 1.0 for one in used)


def test_empty_bins_have_no_values() -> None:
    coco, _ = make_coco_case(0)
    matches = match_rows(coco, [])
    assert compute_calibration_error(matches) is None
    assert {(one["confidence"], one["accuracy"], one["count"]) for one in compute_reliability_bins(matches)} == {
        (None, None, 0)
    }
