"""A draw counts as if its images really stood there so often; and what an interval is."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.generated_detectors import detect, draw_scene
from detector.engine.coco_metrics import evaluate_boxes
from detector.evaluation import bootstrap
from detector.evaluation.bootstrap import average_precisions, draws, interval, score_interval
from detector.evaluation.matching import matches_of
from tests.support.random_cases import random_case, reference_precision, repeated


@pytest.mark.parametrize("block", range(8))
def test_a_draw_is_pycocotools_on_repeated_images(block):
    for seed in range(block * 25, block * 25 + 25):
        # Of equal scores in one image, copies side by side have another order than whole copies: so none here.
        truth, predictions = random_case(seed, 2 + seed % 6, 1 + seed % 3, 9, ties=False)
        times = draws(np.arange(len(truth["images"])), 2, seed)
        precision = average_precisions(matches_of(evaluate_boxes(truth, predictions)), times)
        for drawn, row in zip(times, precision, strict=True):
            expected = reference_precision(*repeated(truth, predictions, drawn))
            np.testing.assert_allclose(row, expected, rtol=0, atol=1e-9, err_msg=f"seed {seed}")


def test_equal_scores_in_different_images():
    for seed in range(20):
        truth, predictions = random_case(seed, 5, 1, 1, ties=True)
        times = draws(np.arange(5), 3, seed)
        precision = average_precisions(matches_of(evaluate_boxes(truth, predictions)), times)
        for drawn, row in zip(times, precision, strict=True):
            expected = reference_precision(*repeated(truth, predictions, drawn))
            np.testing.assert_allclose(row, expected, rtol=0, atol=1e-9)


def test_many_draws_in_parts_are_the_draws_one_by_one(monkeypatch):
    matches = matches_of(evaluate_boxes(*random_case(2, 6, 2, 9)))
    times = draws(np.arange(6), 50, 1)
    whole = average_precisions(matches, times)
    monkeypatch.setattr(bootstrap, "AT_ONCE", 40)
    assert np.array_equal(average_precisions(matches, times), whole, equal_nan=True)
    assert np.array_equal(average_precisions(matches, times[7:8])[0], whole[7], equal_nan=True)


def test_images_that_no_draw_took():
    matches = matches_of(evaluate_boxes(*random_case(2, 4, 2, 9)))
    assert np.isnan(average_precisions(matches, np.zeros((3, 4), np.int32))).all()
    assert average_precisions(matches, np.zeros((0, 4), np.int32)).shape == (0, 10, 2)


def test_groups_are_drawn_together():
    groups = np.array([7, 2, 7, 9, 2, 7])
    times = draws(groups, 400, 3)
    assert times.shape == (400, 6)
    for group in (2, 7, 9):
        of_group = times[:, groups == group]
        assert (of_group == of_group[:, :1]).all()
    # Three groups are drawn each time, whatever their sizes, and each is as likely.
    one_each = times[:, [0, 1, 3]]
    assert (one_each.sum(axis=1) == 3).all()
    assert one_each.mean(axis=0) == pytest.approx([1, 1, 1], abs=0.15)
    assert one_each.std(axis=0) == pytest.approx([np.sqrt(2 / 3)] * 3, abs=0.1)


def test_draws_repeat_with_their_seed():
    assert np.array_equal(draws(np.arange(9), 5, 1), draws(np.arange(9), 5, 1))
    assert not np.array_equal(draws(np.arange(9), 5, 1), draws(np.arange(9), 5, 2))
    assert draws(np.arange(0), 5, 1).shape == (5, 0)
    assert draws(np.arange(9), 0, 1).shape == (0, 9)
    assert (draws(np.zeros(4, np.int64), 5, 1) == 1).all()


def test_interval_by_hand():
    assert interval(np.arange(101.0)) == pytest.approx((2.5, 97.5))
    assert interval(np.arange(101.0), level=0.5) == pytest.approx((25, 75))
    assert interval(np.append(np.arange(101.0), [np.nan] * 101)) == pytest.approx((2.5, 97.5))
    assert interval(np.append(np.arange(101.0), [np.nan] * 102)) is None
    assert interval(np.zeros(0)) is None
    assert interval(np.full(3, np.nan)) is None


def test_score_interval_keeps_to_its_bounds():
    samples = np.clip(np.random.default_rng(0).normal(0.97, 0.02, 1000), 0, 1)
    low, high = score_interval(samples, 0.97, 60)
    assert 0 < low < 0.97 < high < 1
    assert 0.97 - low > high - 0.97, "there is more room below"
    few_low, few_high = score_interval(samples, 0.97, 5)
    assert few_low < low < high < few_high


def test_score_interval_in_the_middle_is_the_normal_one():
    samples = np.random.default_rng(0).normal(0.5, 0.01, 1000)
    step = 1.96 * samples.std()
    assert score_interval(samples, 0.5, 100_000) == pytest.approx((0.5 - step, 0.5 + step), abs=1e-4)


def test_score_interval_of_nothing():
    assert score_interval(np.ones(100), 1.0, 60) == (1, 1)
    assert score_interval(np.zeros(100), 0.0, 60) == (0, 0)
    assert score_interval(np.full(100, 0.5), 0.5, 60) == pytest.approx((0.5, 0.5))
    assert score_interval(np.full(100, 0.5), 0.5, 1) is None
    assert score_interval(np.full(100, np.nan), 0.5, 60) is None
    assert score_interval(np.full(100, 0.5), float("nan"), 60) is None


def test_intervals_of_generated_detectors_hold_the_truth():
    """The full check is benchmarks/uncertainty.py; this one would notice half the width, or AP of another draw."""
    random = np.random.default_rng(4)
    everybody = average_precisions(detect(draw_scene(20_000, random), 2.5, random), np.ones((1, 20_000), np.int32))
    true = np.nanmean(everybody)
    held = 0
    for seed in range(60):
        matches = detect(draw_scene(60, random), 2.5, random)
        times = np.append(np.ones((1, 60), np.int32), draws(np.arange(60), 100, seed), axis=0)
        value, *samples = np.nanmean(average_precisions(matches, times), axis=(1, 2))
        low, high = score_interval(np.array(samples), value, 60)
        held += low <= true <= high
    assert held >= 52
