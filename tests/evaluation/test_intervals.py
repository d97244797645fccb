"""The numbers of other draws of the images; of the images as they are, they are the plain numbers."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.engine.coco_metrics import NUMBERS, coco_numbers, evaluate_boxes
from detector.engine.detections import Prediction
from detector.evaluation.intervals import coco_samples, counts_at, mean_over, resampled, share, with_interval
from detector.evaluation.matching import matches_of
from tests.support.coco_cases import coco_case
from tests.support.references import at_threshold


def drawn(
    coco: dict[str, Any], predictions: list[Prediction], draw: list[int]
) -> tuple[dict[str, Any], list[Prediction]]:
    """The dataset in which each image stands as often as it was drawn, as an image of its own each time."""
    result: dict[str, Any] = {**coco, "images": [], "annotations": []}
    found: list[Prediction] = []
    for image, times in zip(coco["images"], draw, strict=True):
        for _ in range(times):
            number = len(result["images"]) + 1
            result["images"].append({**image, "id": number})
            for annotation in coco["annotations"]:
                if annotation["image_id"] == image["id"]:
                    id_ = len(result["annotations"]) + 1
                    result["annotations"].append({**annotation, "image_id": number, "id": id_})
            for prediction in predictions:
                if prediction["image_id"] == image["id"]:
                    copied = copy.copy(prediction)
                    copied["image_id"] = number
                    found.append(copied)
    return result, found


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0, 8, 130]))
def test_every_draw_is_what_hotcoco_says_of_the_images_drawn(seed: int, detections: int) -> None:
    coco, predictions = coco_case(seed, images=5, detections=detections)
    # A score of its own for each: of equal ones COCO takes the image that comes first, here and in the copy.
    for place, prediction in enumerate(predictions):
        prediction["score"] = (place * 7919 % 10007 + 1) / 10008
    times = np.random.default_rng(seed).integers(0, 3, (3, 5)).astype(np.int32)
    times[0], times[1] = 1, np.minimum(times[1], 1)
    evaluation = evaluate_boxes(coco, predictions)
    samples = coco_samples(resampled(evaluation, matches_of(evaluation), times))
    assert list(samples) == list(NUMBERS)
    for row, draw in enumerate(times.tolist()):
        if not any(draw):
            continue
        expected = coco_numbers(evaluate_boxes(*drawn(coco, predictions, draw)))
        for name, sample in samples.items():
            value = expected[name]
            # Copies of an image have equal scores: COCO puts one before the other, a draw counts them at once.
            if not name.startswith("AP") or max(draw) == 1:
                assert np.isnan(sample[row]) if value is None else sample[row] == pytest.approx(value, abs=1e-9), name


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.floats(0, 1))
def test_counts_are_those_at_the_threshold(seed: int, threshold: float) -> None:
    coco, predictions = coco_case(seed)
    matches = matches_of(evaluate_boxes(coco, predictions))
    counts = counts_at(matches, threshold)
    once = counts.of_draws(np.ones((1, 12), np.int32))
    point = at_threshold(matches, threshold)
    for name, value in (("precision", point.precision), ("recall", point.recall), ("F1", point.f1)):
        assert value == pytest.approx(np.nan_to_num(once[name][0]), abs=1e-12)
    for place in range(3):
        limits = np.full(3, 2.0)
        limits[place] = threshold
        alone = counts_at(matches, limits)
        assert alone.hits.sum() == counts.hits[:, place].sum()
        assert alone.found.sum() == counts.found[:, place].sum()


def test_shares_and_means_of_nothing() -> None:
    assert np.isnan(share([1.0, 0.0], [0.0, 0.0])).all()
    assert mean_over(np.array([[1.0, np.nan], [np.nan, np.nan]]), (1,)) == pytest.approx([1.0, np.nan], nan_ok=True)


def test_no_interval_where_the_draws_cannot_know() -> None:
    nothing = {"x": 1.0, "x_low": None, "x_high": None}
    assert with_interval("x", 0.5, np.linspace(0, 1, 99), 1) == {**nothing, "x": 0.5}
    assert with_interval("x", 1.0, np.ones(100), 100) == nothing
    assert with_interval("x", None, np.ones(100), 100) == {**nothing, "x": None}
    found = with_interval("x", 0.5, np.random.default_rng(0).normal(0.5, 0.01, 10_000), 1_000)
    assert list(found.values()) == pytest.approx([0.5, 0.5 - 0.0196, 0.5 + 0.0196], abs=5e-4)
