"""Bootstrap replicates equal datasets with repeated images; and the confidence intervals."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from detector.evaluation import bootstrap
from detector.evaluation.bootstrap import (
    bootstrap_weights,
    compute_average_precisions,
    logit_interval,
    percentile_interval,
)
from tests.support.generated_detectors import generate_matches, generate_scene
from tests.support.packed import match_rows
from tests.support.random_cases import compute_pycocotools_ap, make_random_case, repeat_images


@pytest.mark.parametrize("block", range(8))
def test_a_sample_equals_pycocotools_on_repeated_images(block: int) -> None:
    for seed in range(block * 25, block * 25 + 25):
        # Copies of an image side by side would order its equal scores differently: so there are none here.
        truth, predictions = make_random_case(seed, 2 + seed % 6, 1 + seed % 3, 9, ties=False)
        weights = bootstrap_weights(np.arange(len(truth["images"])), 2, seed)
        precision = compute_average_precisions(match_rows(truth, predictions), weights)
        for row_weights, row in zip(weights, precision, strict=True):
            expected = compute_pycocotools_ap(*repeat_images(truth, predictions, row_weights))
            np.testing.assert_allclose(row, expected, rtol=0, atol=1e-9, err_msg=f"seed {seed}")


def test_equal_scores_in_different_images() -> None:
    for seed in range(20):
        truth, predictions = make_random_case(seed, 5, 1, 1, ties=True)
        weights = bootstrap_weights(np.arange(5), 3, seed)
        precision = compute_average_precisions(match_rows(truth, predictions), weights)
        for row_weights, row in zip(weights, precision, strict=True):
            expected = compute_pycocotools_ap(*repeat_images(truth, predictions, row_weights))
            np.testing.assert_allclose(row, expected, rtol=0, atol=1e-9)


def test_chunks_give_the_same_as_all_samples_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    matches = match_rows(*make_random_case(2, 6, 2, 9))
    weights = bootstrap_weights(np.arange(6), 50, 1)
    whole = compute_average_precisions(matches, weights)
    monkeypatch.setattr(bootstrap, "CHUNK_ELEMENTS", 40)
    assert np.array_equal(compute_average_precisions(matches, weights), whole, equal_nan=True)
    assert np.array_equal(compute_average_precisions(matches, weights[7:8])[0], whole[7], equal_nan=True)


def test_samples_without_images_or_no_samples() -> None:
    matches = match_rows(*make_random_case(2, 4, 2, 9))
    assert np.isnan(compute_average_precisions(matches, np.zeros((3, 4), np.int32))).all()
    assert compute_average_precisions(matches, np.zeros((0, 4), np.int32)).shape == (0, 10, 2)


def test_groups_are_drawn_together() -> None:
    groups = np.array([7, 2, 7, 9, 2, 7])
    weights = bootstrap_weights(groups, 400, 3)
    assert weights.shape == (400, 6)
    for group in (2, 7, 9):
        group_weights = weights[:, groups == group]
        assert (group_weights == group_weights[:, :1]).all()
    # Each sample draws three groups with equal probability, whatever their sizes.
    one_per_group = weights[:, [0, 1, 3]]
    assert (one_per_group.sum(axis=1) == 3).all()
    assert one_per_group.mean(axis=0) == pytest.approx([1, 1, 1], abs=0.15)
    assert one_per_group.std(axis=0) == pytest.approx([np.sqrt(2 / 3)] * 3, abs=0.1)


def test_weights_are_reproducible_by_seed() -> None:
    assert np.array_equal(bootstrap_weights(np.arange(9), 5, 1), bootstrap_weights(np.arange(9), 5, 1))
    assert not np.array_equal(bootstrap_weights(np.arange(9), 5, 1), bootstrap_weights(np.arange(9), 5, 2))
    assert bootstrap_weights(np.arange(0), 5, 1).shape == (5, 0)
    assert bootstrap_weights(np.arange(9), 0, 1).shape == (0, 9)
    assert (bootstrap_weights(np.zeros(4, np.int64), 5, 1) == 1).all()


def test_percentile_interval_by_hand() -> None:
    assert percentile_interval(np.arange(101.0)) == pytest.approx((2.5, 97.5))
    assert percentile_interval(np.arange(101.0), level=0.5) == pytest.approx((25, 75))
    assert percentile_interval(np.append(np.arange(101.0), [np.nan] * 101)) == pytest.approx((2.5, 97.5))
    assert percentile_interval(np.append(np.arange(101.0), [np.nan] * 102)) is None
    assert percentile_interval(np.zeros(0)) is None
    assert percentile_interval(np.full(3, np.nan)) is None


def compute_bounds(replicates: NDArray[np.float64], value: float, images: int) -> tuple[float, float]:
    interval = logit_interval(replicates, value, images)
    assert interval is not None
    return interval


def test_logit_interval_stays_within_0_and_1() -> None:
    replicates = np.clip(np.random.default_rng(0).normal(0.97, 0.02, 1000), 0, 1)
    low, high = compute_bounds(replicates, 0.97, 60)
    assert 0 < low < 0.97 < high < 1
    assert 0.97 - low > high - 0.97, "there is more room below"
    few_low, few_high = compute_bounds(replicates, 0.97, 5)
    assert few_low < low < high < few_high


def test_logit_interval_around_one_half_is_the_normal_one() -> None:
    replicates = np.random.default_rng(0).normal(0.5, 0.01, 1000)
    step = 1.96 * replicates.std()
    assert logit_interval(replicates, 0.5, 100_000) == pytest.approx((0.5 - step, 0.5 + step), abs=1e-4)


def test_logit_interval_of_degenerate_replicates() -> None:
    assert logit_interval(np.ones(100), 1.0, 60) == (1, 1)
    assert logit_interval(np.zeros(100), 0.0, 60) == (0, 0)
    assert logit_interval(np.full(100, 0.5), 0.5, 60) == pytest.approx((0.5, 0.5))
    assert logit_interval(np.full(100, 0.5), 0.5, 1) is None
    assert logit_interval(np.full(100, np.nan), 0.5, 60) is None
    assert logit_interval(np.full(100, 0.5), float("nan"), 60) is None


def test_intervals_of_generated_detectors_cover_the_true_ap() -> None:
    """A quick version of test_interval_coverage.py: it would notice an interval of half the width."""
    random = np.random.default_rng(4)
    precisions = compute_average_precisions(
        generate_matches(generate_scene(20_000, random), 2.5, random), np.ones((1, 20_000), np.int32)
    )
    true = np.nanmean(precisions)
    covered = 0
    for seed in range(60):
        matches = generate_matches(generate_scene(60, random), 2.5, random)
        weights = np.append(np.ones((1, 60), np.int32), bootstrap_weights(np.arange(60), 100, seed), axis=0)
        value, *replicates = np.nanmean(compute_average_precisions(matches, weights), axis=(1, 2))
        low, high = compute_bounds(np.array(replicates), value, 60)
        covered += bool(low <= true <= high)
    assert covered >= 52
