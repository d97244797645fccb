"""AP on slices of a dataset."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from detector.engine.coco_metrics import read_coco_metrics
from detector.engine.detections import pack_rows
from detector.engine.ground_truth import pack_ground_truth
from detector.evaluation.bootstrap import bootstrap_weights
from detector.evaluation.intervals import run_bootstrap, weigh_once
from detector.evaluation.matched_split import number_groups
from detector.evaluation.matching import collect_matches
from detector.evaluation.overlaps import find_overlaps
from detector.evaluation.slices import MAX_SLICES, SMALL_GROUPS, tabulate_slices
from tests.support.coco_cases import make_coco_case
from tests.support.packed import evaluate_rows

BOOTSTRAP_SAMPLES = 100


def tabulate(coco: dict[str, Any], predictions: list[Any]) -> tuple[dict[tuple[str, str], Any], dict[str, str]]:
    truth = pack_ground_truth(coco)
    overlaps, groups = find_overlaps(truth, pack_rows(predictions)), number_groups(truth.images)
    matches, weights = collect_matches(overlaps), bootstrap_weights(groups, BOOTSTRAP_SAMPLES, 0)
    once, bootstrap = run_bootstrap(overlaps, matches, weigh_once(groups), weights)
    rows, notes = tabulate_slices(truth, overlaps, matches, groups, once=once, bootstrap=bootstrap)
    return {(row["by"], row["slice"]): row for row in rows}, notes


def test_sizes_equal_coco() -> None:
    coco, found = make_coco_case(2, images=30)
    rows, _ = tabulate(coco, found)
    numbers = read_coco_metrics(evaluate_rows(coco, found))
    for size in ("small", "medium", "large"):
        row = rows["size", size]
        assert row["AP"] == pytest.approx(numbers[f"AP_{size}"], abs=1e-9)
        assert row["AP_low"] < row["AP"] < row["AP_high"]
    assert sum(row["objects"] for (by, _), row in rows.items() if by == "size") == sum(
        not a["iscrowd"] for a in coco["annotations"]
    )


def test_a_field_slices_the_images() -> None:
    coco, found = make_coco_case(2, images=30)
    for image in coco["images"]:
        image["light"] = "day" if image["id"] % 3 else "night"
    rows, _ = tabulate(coco, found)
    night = [image for image in coco["images"] if image["light"] == "night"]
    ids = {image["id"] for image in night}
    part = {**coco, "images": night, "annotations": [a for a in coco["annotations"] if a["image_id"] in ids]}
    numbers = read_coco_metrics(evaluate_rows(part, [p for p in found if p["image_id"] in ids]))
    row = rows["light", "night"]
    assert (row["images"], row["little_data"]) == (10, False)
    assert (row["AP"], row["AP50"]) == pytest.approx((numbers["AP"], numbers["AP50"]), abs=1e-9)


def test_a_state_ignores_objects_in_other_states() -> None:
    coco, _ = make_coco_case(0, images=6, objects=0, classes=1)
    coco["annotations"] = [
        {"id": n, "image_id": n, "category_id": 1, "bbox": [0, 0, 50, 50], "area": 2500, "iscrowd": 0, "state": state}
        for n, state in enumerate([1, 1, 2, 2, 2, 2], 1)
    ]
    found = [
        {
            "image_id": n,
            "category_id": 1,
            "bbox": [0.0, 0, 50, 50],
            "score": 0.9 - n / 10,
            "state": 1,
            "state_score": 1.0,
        }
        for n in (1, 3, 4, 5, 6)
    ]
    rows, _ = tabulate(coco, found)
    assert rows["state", "whole"]["AP"] == pytest.approx(51 / 101)  # one of two, and no false positive
    assert rows["state", "broken"]["AP"] == 1
    assert rows["state", "broken"]["little_data"]
    assert ("state", "gone") not in rows


def test_groups_and_fields_with_too_many_values() -> None:
    coco, found = make_coco_case(4, images=60)
    for image in coco["images"]:
        image["name"] = str(image["id"])
        if image["id"] <= 10:
            image["group"] = "a"
        elif image["id"] <= 14:
            image["group"] = f"pair {image['id'] // 2}"
    rows, notes = tabulate(coco, found)
    assert rows["group", "a"]["images"] == 10
    assert rows["group", "a"]["AP_low"] < rows["group", "a"]["AP_high"]  # its images are resampled
    assert rows["group", SMALL_GROUPS]["images"] == 4
    assert rows["group", SMALL_GROUPS]["little_data"]
    assert notes == {"slices by name": f"60 values, more than {MAX_SLICES}"}


def test_no_objects_and_no_detections() -> None:
    coco, _ = make_coco_case(0, images=1, objects=0)
    for row in tabulate(coco, [])[0].values():
        assert (row["objects"], row["AP"], row["AP_low"], row["little_data"]) == (0, None, None, True)


def test_images_of_a_group_share_a_number() -> None:
    coco, _ = make_coco_case(0, images=4)
    coco["images"][1]["group"] = coco["images"][3]["group"] = "a"
    groups = number_groups(pack_ground_truth(coco).images)
    assert len(np.unique(groups)) == 3
    assert groups[1] == groups[3]
