"""Cells of images and classes, and the sizes of detections."""

from __future__ import annotations

import numpy as np
import pytest

from detector.engine.detections import pack_rows
from detector.engine.ground_truth import pack_ground_truth
from detector.evaluation import overlaps
from detector.evaluation.overlaps import AREAS, find_overlaps, narrow, number_cells
from tests.support.random_cases import make_random_case


def test_cells_are_numbered_by_class_and_image_and_unknown_ids_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlaps, "BLOCK", 2)
    images, categories = np.array([10, 20, 30]), np.array([1, 2])
    cells = number_cells(np.array([10, 30, 20, 11, 40]), np.array([1, 2, 3, 1, 2]), images, categories)
    assert cells.tolist() == [0, 5, -1, -1, -1]
    assert cells.dtype == np.int32
    nothing = np.zeros(0, np.int64)
    assert number_cells(np.array([1]), np.array([1]), nothing, categories).tolist() == [-1]


@pytest.mark.parametrize(("largest", "bytes_"), [(0, 1), (127, 1), (128, 2), (2**31 - 1, 4), (2**40, 8)])
def test_whole_numbers_take_as_few_bytes_as_they_fit_into(largest: int, bytes_: int) -> None:
    values = np.array([0, largest])
    assert narrow(values).tolist() == values.tolist()
    assert (narrow(values).dtype.kind, narrow(values).dtype.itemsize) == ("i", bytes_)


def test_a_detection_on_the_border_has_both_sizes() -> None:
    truth, _ = make_random_case(1, 1, 1, 0)
    sides = (10.0, 32.0, 50.0, 96.0, 200.0)
    rows = [
        {"image_id": 1, "category_id": 1, "bbox": [0, 0, side, side], "score": 1 - place / 10}
        for place, side in enumerate(sides)
    ]
    bits = find_overlaps(pack_ground_truth(truth), pack_rows(rows)).size_bits.tolist()
    named = [[name for place, name in enumerate(AREAS) if one >> place & 1] for one in bits]
    assert named == [
        ["all", "small"], ["all", "small", "medium"], ["all", "medium"], ["all", "medium", "large"], ["all", "large"]
    ]  # fmt: skip
