"""Metrics per bootstrap sample; with every image once, they are the plain metrics."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.engine.coco_metrics import COCO_METRICS, read_coco_metrics
from detector.engine.detections import Prediction, pack_rows
from detector.engine.ground_truth import pack_ground_truth
from detector.evaluation.intervals import (
    add_interval,
    bootstrap_coco_metrics,
    count_at_threshold,
    nanmean,
    run_bootstrap,
    safe_divide,
)
from detector.evaluation.matching import collect_matches
from detector.evaluation.overlaps import find_overlaps
from tests.support.coco_cases import make_coco_case
from tests.support.packed import evaluate_rows, match_rows
from tests.support.references import compute_operating_point


def repeat_images(
    coco: dict[str, Any], predictions: list[Prediction], counts: list[int]
) -> tuple[dict[str, Any], list[Prediction]]:
    """The dataset with each image as often as it was drawn, each copy as an image of its own."""
    result: dict[str, Any] = {**coco, "images": [], "annotations": []}
    found: list[Prediction] = []
    for image, count in zip(coco["images"], counts, strict=True):
        for _ in range(count):
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


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.sampled_from([0, 8, 130]))
def test_each_sample_equals_hotcoco_on_the_images_drawn(seed: int, detections: int) -> None:
    coco, predictions = make_coco_case(seed, images=5, detections=detections)
    # Unique scores: among equal ones COCO's order depends on the image, which differs in the copy.
    for place, prediction in enumerate(predictions):
        prediction["score"] = (place * 7919 % 10007 + 1) / 10008
    weights = np.random.default_rng(seed).integers(0, 3, (3, 5)).astype(np.int32)
    weights[0], weights[1] = 1, np.minimum(weights[1], 1)
    overlaps = find_overlaps(pack_ground_truth(coco), pack_rows(predictions))
    (bootstrap,) = run_bootstrap(overlaps, collect_matches(overlaps), weights)
    replicates = bootstrap_coco_metrics(bootstrap)
    assert list(replicates) == list(COCO_METRICS)
    for row, counts in enumerate(weights.tolist()):
        if not any(counts):
            continue
        expected = read_coco_metrics(evaluate_rows(*repeat_images(coco, predictions, counts)))
        for name, sample in replicates.items():
            value = expected[name]
            # Copies of an image have equal scores: COCO orders them, the bootstrap counts them at once.
            if not name.startswith("AP") or max(counts) == 1:
                assert np.isnan(sample[row]) if value is None else sample[row] == pytest.approx(value, abs=1e-9), name


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.floats(0, 1))
def test_counts_at_a_threshold(seed: int, threshold: float) -> None:
    coco, predictions = make_coco_case(seed)
    matches = match_rows(coco, predictions)
    counts = count_at_threshold(matches, threshold)
    once = counts.compute_scores(np.ones((1, 12), np.int32))
    point = compute_operating_point(matches, threshold)
    for name, value in (("precision", point.precision), ("recall", point.recall), ("F1", point.f1)):
        assert value == pytest.approx(np.nan_to_num(once[name][0]), abs=1e-12)
    for place in range(3):
        limits = np.full(3, 2.0)
        limits[place] = threshold
        alone = count_at_threshold(matches, limits)
        assert alone.by_class[:2].sum(axis=1).tolist() == counts.by_class[:2, place].tolist()
    assert counts.by_image.sum(axis=1).tolist() == counts.by_class.sum(axis=1).tolist()
    assert counts.by_image[2].tolist() == matches.object_counts.sum(axis=1).tolist()


def test_safe_divide_and_nanmean_of_nothing() -> None:
    assert np.isnan(safe_divide([1.0, 0.0], [0.0, 0.0])).all()
    assert nanmean(np.array([[1.0, np.nan], [np.nan, np.nan]]), (1,)) == pytest.approx([1.0, np.nan], nan_ok=True)


def test_no_interval_where_the_bootstrap_cannot_estimate_one() -> None:
    nothing = {"x": 1.0, "x_low": None, "x_high": None}
    assert add_interval("x", 0.5, np.linspace(0, 1, 99), 1) == {**nothing, "x": 0.5}
    assert add_interval("x", 1.0, np.ones(100), 100) == nothing
    assert add_interval("x", None, np.ones(100), 100) == {**nothing, "x": None}
    found = add_interval("x", 0.5, np.random.default_rng(0).normal(0.5, 0.01, 10_000), 1_000)
    assert list(found.values()) == pytest.approx([0.5, 0.5 - 0.0196, 0.5 + 0.0196], abs=5e-4)
