"""What the comparison says besides its numbers, which test_compare.py checks."""

from __future__ import annotations

from typing import Any

import pytest

from compare import compare
from comparison_inputs import Experiment, describe_export
from comparison_table import render_comparison
from detector.comparison.common_images import DetectorResults
from detector.core.errors import UserError

BOX: dict[str, Any] = {"image_id": 1, "category_id": 1, "bbox": [10, 10, 50, 40]}
TRUTH: dict[str, Any] = {
    "images": [{"id": 1, "file_name": "a.png", "width": 99, "height": 99}],
    "annotations": [{"id": 1, "area": 2000, "iscrowd": 0, "state": 0, **BOX}],
    "categories": [{"id": 1, "name": "bolt"}],
    "states": [],
}


def test_an_exported_file_in_another_precision_is_named() -> None:
    """The figures are the file's."""
    note = describe_export("main", {"precision": "int8", "AP_drop": 0.0123})
    detections: list[Any] = [BOX | {"score": 0.9}]
    results = DetectorResults(TRUTH, detections)
    text = render_comparison(compare(Experiment("main", results, None, note), Experiment("b", results, None)))
    (line,) = [line for line in text.splitlines() if "int8" in line]
    assert line.startswith("`main` exports a file in int8, and these figures are that file's.")
    assert "lower than the model's by 0.012" in line


def test_export_details_without_a_figure() -> None:
    with pytest.raises(UserError, match=r"details\.json of `main` lacks `precision` or `AP_drop`"):
        describe_export("main", {"precision": "int8"})
