"""Planted differences are found, luck is not, and every number is what pycocotools and hand counting say."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.generated_detectors import detect, draw_scene
from detector.comparison.comparison import METRICS, Side, differences, holm, image_changes, p_value
from detector.engine.coco_metrics import evaluate_boxes
from detector.evaluation.bootstrap import draws
from detector.evaluation.matching import matches_of
from tests.support.random_cases import random_case, reference_precision, repeated
from tests.support.references import at_threshold


def sides(seed: int, images: int, more: float) -> tuple[Side, Side]:
    """Two generated detectors on the same images, the second more skilful by `more`."""
    random = np.random.default_rng(seed)
    scene = draw_scene(images, random)
    a, b = (Side(detect(scene, skill, random), np.full(3, 0.5)) for skill in (1.0, 1.0 + more))
    return a, b


def test_values_are_those_of_the_reference():
    truth, predictions = random_case(8, 6, 3, 12, ties=False)
    fewer = predictions[::2]
    a, b = (Side(matches_of(evaluate_boxes(truth, rows)), np.full(3, 0.4)) for rows in (predictions, fewer))
    metrics, classes = differences(a, b, ["x", "y", "z"], draws(np.arange(6), 50, 0))
    before, after = reference_precision(truth, predictions), reference_precision(truth, fewer)
    for row, pick in zip(metrics, (slice(None), 0, 5), strict=False):
        assert row.a == pytest.approx(before[pick].mean(), abs=1e-9)
        assert row.b == pytest.approx(after[pick].mean(), abs=1e-9)
        assert row.change == pytest.approx(after[pick].mean() - before[pick].mean(), abs=1e-9)
    assert metrics[3].a == pytest.approx(at_threshold(a.matches, 0.4).f1)
    assert metrics[3].b == pytest.approx(at_threshold(b.matches, 0.4).f1)
    for place, row in enumerate(classes):
        assert row.change == pytest.approx((after - before)[:, place].mean(), abs=1e-9)
        assert row.objects == a.matches.truths[:, place].sum()


def test_the_interval_is_that_of_really_repeated_images():
    truth, predictions = random_case(8, 5, 2, 12, ties=False)
    fewer = predictions[::2]
    times = draws(np.arange(5), 40, 1)
    a, b = (Side(matches_of(evaluate_boxes(truth, rows)), np.full(2, 0.4)) for rows in (predictions, fewer))
    metrics, _ = differences(a, b, ["x", "y"], times)
    samples = [
        np.nanmean(reference_precision(*repeated(truth, fewer, drawn)))
        - np.nanmean(reference_precision(*repeated(truth, predictions, drawn)))
        for drawn in times
    ]
    assert (metrics[0].low, metrics[0].high) == pytest.approx(tuple(np.quantile(samples, [0.025, 0.975])), abs=1e-9)


def test_a_planted_difference_is_found_and_none_is_not():
    times = [draws(np.arange(80), 200, seed) for seed in range(40)]
    found = [differences(*sides(seed, 80, 1.0), ["a", "b", "c"], times[seed]) for seed in range(12)]
    assert sum(metrics[0].verdict == "better" for metrics, _ in found) >= 11
    assert sum(row.verdict == "better" for _, classes in found for row in classes) >= 18
    reverse = [differences(*sides(seed, 80, 1.0)[::-1], ["a", "b", "c"], times[seed])[0] for seed in range(3)]
    assert [metrics[0].verdict for metrics in reverse] == ["worse"] * 3
    none = [differences(*sides(seed, 80, 0.0), ["a", "b", "c"], times[seed]) for seed in range(40)]
    assert sum(metrics[0].verdict != "open" for metrics, _ in none) <= 5
    assert sum(any(row.verdict != "open" for row in classes) for _, classes in none) <= 5


def test_the_same_detector_is_no_difference():
    a, _ = sides(1, 30, 0.0)
    metrics, classes = differences(a, a, ["a", "b", "c"], draws(np.arange(30), 100, 0))
    for row in [*metrics, *classes]:
        assert (row.change, row.low, row.high, row.p, row.verdict) == (0, 0, 0, 1, "open")
    assert [row.name for row in metrics] == list(METRICS)
    assert all(change.errors == 0 for change in image_changes(a, a))


def test_what_cannot_be_judged_is_none():
    truth, predictions = random_case(0, 4, 2, 9)
    a = Side(matches_of(evaluate_boxes(truth, predictions)), np.full(2, 0.5))
    assert a.matches.truths[:, 1].sum() == 0
    _, (first, second) = differences(a, a, ["x", "y"], draws(np.arange(4), 20, 0))
    assert first.a is not None
    assert second[1:] == (0, None, None, None, None, None, None, None)
    assert second.verdict == "none"


def test_a_class_in_one_image_has_no_interval():
    truth, predictions = random_case(5, 8, 1, 6)
    truth["annotations"] = [item for item in truth["annotations"] if item["image_id"] == 3 and not item["iscrowd"]]
    a = Side(matches_of(evaluate_boxes(truth, predictions)), np.full(1, 0.5))
    times = np.zeros((10, 8), np.int32)
    times[:4, 2] = 1  # fewer than half of the draws have it
    ((row, *_), _) = differences(a, a, ["x"], times)
    assert row.a is not None
    assert (row.low, row.p, row.verdict) == (None, None, "none")


def test_p_by_hand():
    assert p_value(np.array([1.0] * 99)) == pytest.approx(2 / 100)
    assert p_value(np.array([-1.0] * 3 + [1.0] * 96)) == pytest.approx(8 / 100)
    assert p_value(np.array([-1.0] * 96 + [np.nan] * 50 + [1.0] * 3)) == pytest.approx(8 / 100)
    assert p_value(np.zeros(99)) == 1
    assert p_value(np.array([np.nan])) == 1


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]) == [1, 1]
    assert holm([]) == []


def test_changes_of_images_by_hand():
    def objects(image: int) -> list[dict[str, object]]:
        return [
            {"id": 10 * image + k, "image_id": image, "category_id": 1, "bbox": [50 * k, 0, 20, 20], "area": 400,
             "iscrowd": 0}
            for k in range(2)
        ]  # fmt: skip

    def at(image: int, left: float, score: float) -> dict[str, object]:
        return {"image_id": image, "category_id": 1, "bbox": [left, 0, 20, 20], "score": score}

    truth = {
        "images": [{"id": image, "width": 200, "height": 50, "file_name": f"{image}.jpg"} for image in (1, 2, 3, 4)],
        "annotations": [*objects(1), *objects(2), *objects(3)],
        "categories": [{"id": 1, "name": "x"}],
    }
    before = [at(1, 0, 0.9), at(2, 0, 0.9), at(2, 50, 0.9), at(3, 0, 0.9), at(3, 50, 0.2)]
    after = [at(1, 0, 0.9), at(1, 50, 0.9), at(2, 0, 0.9), at(2, 150, 0.9), at(3, 4, 0.9), at(4, 0, 0.9)]
    a, b = (Side(matches_of(evaluate_boxes(truth, rows)), np.full(1, 0.5)) for rows in (before, after))
    changes = image_changes(a, b)
    assert [tuple(change) for change in changes] == [
        (1, -1, (1, 0), (0, 0)),
        (3, 0, (1, 1), (0, 0)),  # only less exact
        (4, 1, (0, 0), (0, 1)),
        (2, 2, (0, 1), (0, 1)),
    ]
