"""What the comparison says besides its numbers, which test_compare.py checks."""

from __future__ import annotations

from typing import Any

from compare import Experiment, compare, describe_export
from comparison_table import render_comparison
from detector.comparison.common_images import DetectorResults

BOX: dict[str, Any] = {"image_id": 1, "category_id": 1, "bbox": [10, 10, 50, 40]}
TRUTH: dict[str, Any] = {
    "images": [{"id": 1, "file_name": "a.png", "width": 99, "height": 99}],
    "annotations": [{"id": 1, "area": 2000, "iscrowd": 0, "state": 0, **BOX}],
    "categories": [{"id": 1, "name": "bolt"}],
    "states": [],
}


def test_an_exported_file_in_another_precision_is_named() -> None:
    """The figures are the model's; an int8 file may be worse."""
    note = describe_export("main", {"precision": "int8", "precisions": {"int8": {"AP_drop": 0.0123}}})
    detections: list[Any] = [BOX | {"score": 0.9}]
    results = DetectorResults(TRUTH, detections)
    text = render_comparison(compare(Experiment("main", results, None, note), Experiment("b", results, None)))
    (line,) = [line for line in text.splitlines() if "int8" in line]
    assert line.startswith("`main` exports a file in int8.")
    assert "lower by 0.012" in line


def test_a_file_in_fp32_needs_no_note() -> None:
    """Such a file reproduces the model; results before there were other precisions name none."""
    assert describe_export("main", {"precision": "fp32", "precisions": {}}) == describe_export("main", {}) == ""
