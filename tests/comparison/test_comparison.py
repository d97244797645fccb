"""True differences are found, noise is not, and every number equals pycocotools and hand counts."""

from __future__ import annotations

import numpy as np
import pytest

from detector.comparison.comparison import (
    DetectorMatches,
    apply_holm,
    compare_detectors,
    compare_images,
    compute_p_value,
)
from detector.engine.detections import Prediction
from detector.evaluation.bootstrap import bootstrap_weights
from detector.evaluation.metric_names import COMPARED_METRICS
from tests.support.generated_detectors import generate_matches, generate_scene
from tests.support.packed import match_rows
from tests.support.random_cases import compute_pycocotools_ap, make_random_case, repeat_images
from tests.support.references import compute_operating_point


def generate_detectors(seed: int, images: int, more: float) -> tuple[DetectorMatches, DetectorMatches]:
    """Two generated detectors on the same images, the second better by `more`."""
    random = np.random.default_rng(seed)
    scene = generate_scene(images, random)
    a, b = (DetectorMatches(generate_matches(scene, skill, random), np.full(3, 0.5)) for skill in (1.0, 1.0 + more))
    return a, b


def test_values_equal_the_reference() -> None:
    truth, predictions = make_random_case(8, 6, 3, 12, ties=False)
    fewer = predictions[::2]
    a, b = (DetectorMatches(match_rows(truth, rows), np.full(3, 0.4)) for rows in (predictions, fewer))
    metrics, classes = compare_detectors(a, b, ["x", "y", "z"], bootstrap_weights(np.arange(6), 50, 0))
    before, after = compute_pycocotools_ap(truth, predictions), compute_pycocotools_ap(truth, fewer)
    picks: tuple[slice | int, ...] = (slice(None), 0, 5)
    for row, pick in zip(metrics, picks, strict=False):
        assert row.a == pytest.approx(before[pick].mean(), abs=1e-9)
        assert row.b == pytest.approx(after[pick].mean(), abs=1e-9)
        assert row.change == pytest.approx(after[pick].mean() - before[pick].mean(), abs=1e-9)
    assert metrics[3].a == pytest.approx(compute_operating_point(a.matches, 0.4).f1)
    assert metrics[3].b == pytest.approx(compute_operating_point(b.matches, 0.4).f1)
    for place, row in enumerate(classes):
        assert row.change == pytest.approx((after - before)[:, place].mean(), abs=1e-9)
        assert row.objects == a.matches.object_counts[:, place].sum()


def test_the_interval_equals_that_of_repeated_images() -> None:
    truth, predictions = make_random_case(8, 5, 2, 12, ties=False)
    fewer = predictions[::2]
    weights = bootstrap_weights(np.arange(5), 40, 1)
    a, b = (DetectorMatches(match_rows(truth, rows), np.full(2, 0.4)) for rows in (predictions, fewer))
    metrics, _ = compare_detectors(a, b, ["x", "y"], weights)
    replicates = [
        np.nanmean(compute_pycocotools_ap(*repeat_images(truth, fewer, row_weights)))
        - np.nanmean(compute_pycocotools_ap(*repeat_images(truth, predictions, row_weights)))
        for row_weights in weights
    ]
    assert (metrics[0].low, metrics[0].high) == pytest.approx(tuple(np.quantile(replicates, [0.025, 0.975])), abs=1e-9)


def test_a_true_difference_is_significant_and_noise_is_not() -> None:
    weights = [bootstrap_weights(np.arange(80), 200, seed) for seed in range(40)]
    found = [
        compare_detectors(*generate_detectors(seed, 80, 1.0), ["a", "b", "c"], weights[seed]) for seed in range(12)
    ]
    assert sum(metrics[0].verdict == "better" for metrics, _ in found) >= 11
    assert sum(row.verdict == "better" for _, classes in found for row in classes) >= 18
    reverse = [
        compare_detectors(*generate_detectors(seed, 80, 1.0)[::-1], ["a", "b", "c"], weights[seed])[0]
        for seed in range(3)
    ]
    assert [metrics[0].verdict for metrics in reverse] == ["worse"] * 3
    none = [compare_detectors(*generate_detectors(seed, 80, 0.0), ["a", "b", "c"], weights[seed]) for seed in range(40)]
    assert sum(metrics[0].verdict != "not significant" for metrics, _ in none) <= 5
    assert sum(any(row.verdict != "not significant" for row in classes) for _, classes in none) <= 5


def test_a_detector_does_not_differ_from_itself() -> None:
    a, _ = generate_detectors(1, 30, 0.0)
    metrics, classes = compare_detectors(a, a, ["a", "b", "c"], bootstrap_weights(np.arange(30), 100, 0))
    for row in [*metrics, *classes]:
        assert (row.change, row.low, row.high, row.p, row.verdict) == (0, 0, 0, 1, "not significant")
    assert [row.name for row in metrics] == list(COMPARED_METRICS)
    assert all(change.errors == 0 for change in compare_images(a, a))


def test_a_class_without_objects_is_undefined() -> None:
    truth, predictions = make_random_case(0, 4, 2, 9)
    a = DetectorMatches(match_rows(truth, predictions), np.full(2, 0.5))
    assert a.matches.object_counts[:, 1].sum() == 0
    _, (first, second) = compare_detectors(a, a, ["x", "y"], bootstrap_weights(np.arange(4), 20, 0))
    assert first.a is not None
    assert second[1:] == (0, None, None, None, None, None, None, None)
    assert second.verdict == "undefined"


def test_a_class_in_one_image_has_no_interval() -> None:
    truth, predictions = make_random_case(5, 8, 1, 6)
    truth["annotations"] = [item for item in truth["annotations"] if item["image_id"] == 3 and not item["iscrowd"]]
    a = DetectorMatches(match_rows(truth, predictions), np.full(1, 0.5))
    weights = np.zeros((10, 8), np.int32)
    weights[:4, 2] = 1  # fewer than half of the replicates contain it
    ((row, *_), _) = compare_detectors(a, a, ["x"], weights)
    assert row.a is not None
    assert (row.low, row.p, row.verdict) == (None, None, "undefined")


def test_p_value_by_hand() -> None:
    assert compute_p_value(np.array([1.0] * 99)) == pytest.approx(2 / 100)
    assert compute_p_value(np.array([-1.0] * 3 + [1.0] * 96)) == pytest.approx(8 / 100)
    assert compute_p_value(np.array([-1.0] * 96 + [np.nan] * 50 + [1.0] * 3)) == pytest.approx(8 / 100)
    assert compute_p_value(np.zeros(99)) == 1
    assert compute_p_value(np.array([np.nan])) == 1


def test_holm_by_hand() -> None:
    assert apply_holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert apply_holm([0.9, 0.8]) == [1, 1]
    assert apply_holm([]) == []


def test_changes_of_images_by_hand() -> None:
    def objects(image: int) -> list[dict[str, object]]:
        return [
            {
                "id": 10 * image + k,
                "image_id": image,
                "category_id": 1,
                "bbox": [50 * k, 0, 20, 20],
                "area": 400,
                "iscrowd": 0,
            }
            for k in range(2)
        ]

    def at(image: int, left: float, score: float) -> Prediction:
        box: list[float] = [left, 0, 20, 20]
        return {"image_id": image, "category_id": 1, "bbox": box, "score": score, "state": 0, "state_score": 0.0}

    truth = {
        "images": [{"id": image, "width": 200, "height": 50, "file_name": f"{image}.jpg"} for image in (1, 2, 3, 4)],
        "annotations": [*objects(1), *objects(2), *objects(3)],
        "categories": [{"id": 1, "name": "x"}],
    }
    before = [at(1, 0, 0.9), at(2, 0, 0.9), at(2, 50, 0.9), at(3, 0, 0.9), at(3, 50, 0.2)]
    after = [at(1, 0, 0.9), at(1, 50, 0.9), at(2, 0, 0.9), at(2, 150, 0.9), at(3, 4, 0.9), at(4, 0, 0.9)]
    a, b = (DetectorMatches(match_rows(truth, rows), np.full(1, 0.5)) for rows in (before, after))
    changes = compare_images(a, b)
    assert [tuple(change) for change in changes] == [
        (1, -1, (1, 0), (0, 0)),
        (3, 0, (1, 1), (0, 0)),  # only less precise
        (4, 1, (0, 0), (0, 1)),
        (2, 2, (0, 1), (0, 1)),
    ]
