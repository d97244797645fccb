"""All metrics together: none is NaN, and each missing one has a reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.engine.coco_metrics import read_coco_metrics
from detector.evaluation.matched_split import choose_thresholds
from detector.evaluation.metric_names import METRICS, file_keys, interval_names
from detector.evaluation.metrics import Metrics, compute_metrics
from detector.evaluation.writers import write_metrics_json
from tests.support.coco_cases import keep_present_objects, make_coco_case
from tests.support.packed import evaluate_rows, split_rows

BOOTSTRAP_SAMPLES = 100


def evaluate(
    coco: dict[str, Any],
    predictions: list[Any],
    *,
    val: tuple[Any, Any] | None = None,
    rule: str = "f1",
    per_class: bool = False,
) -> Metrics:
    test = split_rows(coco, predictions)
    val_split = test if val is None else split_rows(*val)
    objects = sum(not a["iscrowd"] for a in coco["annotations"])
    scores = np.random.default_rng(0).dirichlet(np.ones(3), objects) if coco["states"] else np.zeros((objects, 0))
    thresholds = choose_thresholds(val_split, rule, per_class, 10)
    return compute_metrics(
        val_split, test, thresholds, state_scores=scores, cost_ratio=10, bootstrap_samples=BOOTSTRAP_SAMPLES
    )


def check(metrics: Metrics) -> None:
    json.dumps([metrics.flat, metrics.details], allow_nan=False)
    notes = metrics.details["notes"]
    for name, value in metrics.flat.items():
        base = name.removesuffix("_low").removesuffix("_high")
        reasons = {base, f"interval of {base}", "intervals", name.split("_")[0]}
        without_base = metrics.flat[base] is None and base in name and name != base
        assert value is not None or without_base or reasons & set(notes)
        assert value is None or isinstance(value, float)


@settings(max_examples=25)
@given(st.integers(0, 10**6), st.booleans(), st.integers(0, 3), st.sampled_from([0, 1, 8]), st.integers(1, 6))
def test_no_metric_is_nan_and_each_missing_one_has_a_reason(
    seed: int, states: bool, objects: int, detections: int, images: int
) -> None:
    case = make_coco_case(seed, images=images, objects=objects, detections=detections, states=states)
    check(evaluate(*case, val=make_coco_case(seed + 1, images=3, states=states)))
    check(evaluate(*case, per_class=True))


def test_metrics_have_intervals_and_equal_coco() -> None:
    coco, predictions = make_coco_case(5, images=60)
    metrics = evaluate(coco, predictions)
    check(metrics)
    for name, value in read_coco_metrics(evaluate_rows(keep_present_objects(coco), predictions)).items():
        assert metrics.flat[name] == pytest.approx(value, abs=1e-12)
    with_interval = [metric.name for metric in METRICS.values() if metric.interval]
    for name in with_interval:
        low_name, high_name = interval_names(name)
        low, value, high = (metrics.flat[key] for key in (low_name, name, high_name))
        assert low is not None
        assert value is not None
        assert high is not None
        assert low <= value <= high, name
    assert list(metrics.flat) == file_keys(states=True)
    assert [row["class"] for row in metrics.details["classes"]] == ["class 1", "class 2", "class 3"]
    assert evaluate(coco, predictions) == metrics


def test_images_of_a_group_are_resampled_together() -> None:
    coco, predictions = make_coco_case(5, images=60)
    alone = evaluate(coco, predictions).flat
    for image in coco["images"]:
        image["group"] = str(image["id"] % 2)
    together = evaluate(coco, predictions)
    assert together.flat["AP"] == alone["AP"]
    assert together.flat["AP_low"] != alone["AP_low"]
    for image in coco["images"]:
        image["group"] = "all"
    one = evaluate(coco, predictions)
    assert one.flat["AP_low"] is None
    assert "one group" in one.details["notes"]["intervals"]


def test_no_detections() -> None:
    coco, _ = make_coco_case(5)
    metrics = evaluate(coco, [])
    check(metrics)
    assert (metrics.flat["AP"], metrics.flat["recall"], metrics.flat["precision"]) == (0, 0, None)
    assert metrics.flat["tide_missed"] is None
    assert {"precision", "tide", "calibration_error", "mean_IoU", "temperature", "threshold"} <= set(
        metrics.details["notes"]
    )


def test_no_objects() -> None:
    coco, predictions = make_coco_case(5)
    metrics = evaluate({**coco, "annotations": []}, predictions)
    check(metrics)
    assert (metrics.flat["AP"], metrics.flat["recall"], metrics.flat["precision"]) == (None, None, 0)


def test_a_class_without_objects() -> None:
    coco, predictions = make_coco_case(5)
    coco["categories"].append({"id": 4, "name": "never"})
    metrics = evaluate(coco, predictions)
    row = metrics.details["classes"][3]
    values = {key: value for key, value in row.items() if value is not None}
    thresholds = {name: metrics.flat[name] for name in ("threshold", "raw_threshold")}
    assert values == {"class": "never", "objects": 0} | thresholds
    assert "no object" in metrics.details["notes"]["class never"]


def test_one_image() -> None:
    coco, predictions = make_coco_case(5, images=1)
    metrics = evaluate(coco, predictions)
    check(metrics)
    assert metrics.flat["AP"] is not None
    assert {value for name, value in metrics.flat.items() if name.endswith(("_low", "_high"))} == {None}
    assert "one image" in metrics.details["notes"]["intervals"]


def test_the_file_is_compact_json(tmp_path: Path) -> None:
    metrics = evaluate(*make_coco_case(5))
    path = tmp_path / "new" / "details.json"
    write_metrics_json(path, {**metrics.details, "odd": ["[\n  1\n]", 1 / 3]})
    read = json.loads(path.read_text(encoding="utf-8"))
    assert read["odd"] == ["[\n  1\n]", 0.333333333333]
    assert read["states"]["confusion"] == metrics.details["states"]["confusion"]
    points = sum(map(len, metrics.details["states"]["roc"].values()))
    assert len(path.read_text(encoding="utf-8").splitlines()) < 500 + 2 * points
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_metrics_json(path, {"x": float("nan")})
