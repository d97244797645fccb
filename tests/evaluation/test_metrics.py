"""All the numbers together: none is NaN, and each that does not exist has its reason."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.engine.coco_metrics import NUMBERS, coco_numbers
from detector.evaluation.matched_split import judge, thresholds_on
from detector.evaluation.metrics import Measured, measure
from detector.evaluation.writers import write_numbers
from tests.support.coco_cases import coco_case

RESAMPLES = 100
PLAIN = ("threshold", "temperature")  # of val, or of one matching: they have no interval


def measured(
    coco: dict[str, Any], predictions: list[Any], val: tuple[Any, Any] | None = None, rule: str = "f1",
    per_class: bool = False,
) -> Measured:  # fmt: skip
    test = judge(coco, predictions)
    of_val = test if val is None else judge(*val)
    objects = sum(not a["iscrowd"] for a in coco["annotations"])
    scores = np.random.default_rng(0).dirichlet(np.ones(3), objects) if coco["states"] else np.zeros((objects, 0))
    thresholds = thresholds_on(of_val, rule, per_class, 10)
    return measure(of_val, test, thresholds, scores, 10, RESAMPLES)


def check(found: Measured) -> None:
    json.dumps([found.flat, found.details], allow_nan=False)
    notes = found.details["notes"]
    for name, value in found.flat.items():
        base = name.removesuffix("_low").removesuffix("_high")
        reasons = {base, f"interval of {base}", "intervals", name.split("_")[0]}
        assert value is not None or (found.flat[base] is None and base in name and name != base) or reasons & set(notes)
        assert value is None or isinstance(value, float)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.integers(0, 3), st.sampled_from([0, 1, 8]), st.integers(1, 6))
def test_no_number_is_nan_and_each_missing_one_is_explained(
    seed: int, states: bool, objects: int, detections: int, images: int
) -> None:
    case = coco_case(seed, images=images, objects=objects, detections=detections, states=states)
    check(measured(*case, val=coco_case(seed + 1, images=3, states=states)))
    check(measured(*case, per_class=True))


def test_headline_numbers_have_intervals_and_are_the_plain_numbers() -> None:
    coco, predictions = coco_case(5, images=60)
    found = measured(coco, predictions)
    check(found)
    for name, value in coco_numbers(judge(coco, predictions).evaluation).items():
        assert found.flat[name] == value
    headline = (*NUMBERS, "precision", "recall", "F1", "mean_IoU", "calibration_error", "state_macro_F1", "joint_AP",
                "hallucination")  # fmt: skip
    for name in headline:
        low, value, high = (found.flat[key] for key in (f"{name}_low", name, f"{name}_high"))
        assert low is not None
        assert value is not None
        assert high is not None
        assert low <= value <= high, name
    assert set(found.flat) - {f"{name}{end}" for name in headline for end in ("", "_low", "_high")} == {
        *PLAIN, *(f"tide_{kind}" for kind in ("class", "location", "both", "duplicate", "background", "missed"))
    }  # fmt: skip
    assert [row["class"] for row in found.details["classes"]] == ["class 1", "class 2", "class 3"]
    assert measured(coco, predictions) == found


def test_images_of_a_group_are_drawn_together() -> None:
    coco, predictions = coco_case(5, images=60)
    alone = measured(coco, predictions).flat
    for image in coco["images"]:
        image["group"] = str(image["id"] % 2)
    together = measured(coco, predictions)
    assert together.flat["AP"] == alone["AP"]
    assert together.flat["AP_low"] != alone["AP_low"]
    for image in coco["images"]:
        image["group"] = "all"
    one = measured(coco, predictions)
    assert one.flat["AP_low"] is None
    assert "one group" in one.details["notes"]["intervals"]


def test_no_detections() -> None:
    coco, _ = coco_case(5)
    found = measured(coco, [])
    check(found)
    assert (found.flat["AP"], found.flat["recall"], found.flat["precision"]) == (0, 0, None)
    assert found.flat["tide_missed"] is None
    assert {"precision", "tide", "calibration_error", "mean_IoU", "temperature", "threshold"} <= set(
        found.details["notes"]
    )


def test_no_objects() -> None:
    coco, predictions = coco_case(5)
    found = measured({**coco, "annotations": []}, predictions)
    check(found)
    assert (found.flat["AP"], found.flat["recall"], found.flat["precision"]) == (None, None, 0)


def test_a_class_without_objects() -> None:
    coco, predictions = coco_case(5)
    coco["categories"].append({"id": 4, "name": "never"})
    found = measured(coco, predictions)
    row = found.details["classes"][3]
    assert {key: value for key, value in row.items() if value is not None} == {
        "class": "never", "objects": 0, "threshold": found.flat["threshold"]
    }  # fmt: skip
    assert found.details["notes"]["class never"] == "there is no object of it"


def test_one_image() -> None:
    coco, predictions = coco_case(5, images=1)
    found = measured(coco, predictions)
    check(found)
    assert found.flat["AP"] is not None
    assert {value for name, value in found.flat.items() if name.endswith(("_low", "_high"))} == {None}
    assert "one image" in found.details["notes"]["intervals"]


def test_the_file_is_json_with_a_curve_on_few_lines(tmp_path: Path) -> None:
    found = measured(*coco_case(5))
    path = tmp_path / "new" / "details.json"
    write_numbers(path, {**found.details, "odd": ["[\n  1\n]", 1 / 3]})
    read = json.loads(path.read_text(encoding="utf-8"))
    assert read["odd"] == ["[\n  1\n]", 0.333333333333]
    assert read["states"]["confusion"] == found.details["states"]["confusion"]
    points = sum(map(len, found.details["states"]["roc"].values()))
    assert len(path.read_text(encoding="utf-8").splitlines()) < 500 + 2 * points
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_numbers(path, {"x": float("nan")})
