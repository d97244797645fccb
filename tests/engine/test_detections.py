"""Columns of detections give back the numbers that went in, exactly."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.engine.detections import Predictions, concatenate, pack_rows

ROUNDED = st.integers(0, 6_000_000).map(lambda value: value / 100)
SCORES = st.integers(0, 100_000).map(lambda value: value / 100_000)
ANY = st.floats(0, 1e5)


def rows_of(box: st.SearchStrategy[float], score: st.SearchStrategy[float]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(
        {
            "image_id": st.integers(1, 2**40),
            "category_id": st.integers(1, 1203),
            "bbox": st.lists(box, min_size=4, max_size=4),
            "score": score,
            "state": st.integers(0, 9),
            "state_score": score,
        }
    )


@given(st.lists(rows_of(ROUNDED, SCORES)), st.lists(rows_of(ANY, st.floats(0, 1))))
def test_rows_survive_packing(rounded: list[Any], others: list[Any]) -> None:
    packed, foreign = pack_rows(rounded), pack_rows(others)
    assert list(packed.to_rows()) == rounded
    assert list(concatenate([packed, foreign, packed]).to_rows()) == [*rounded, *others, *rounded]
    if rounded:
        assert count_bytes(packed) == 38 * len(rounded)


def count_bytes(predictions: Predictions) -> int:
    return sum(column.nbytes for column in vars(predictions).values())


def test_nothing() -> None:
    assert len(concatenate([])) == len(pack_rows([])) == 0
    assert pack_rows([]).boxes_xywh.shape == (0, 4)


@pytest.mark.parametrize("index", [np.array([True, False, True]), np.array([0, 2]), slice(0, 3, 2)])
def test_selected_rows_stay_in_order(index: Any) -> None:
    rows = [{"image_id": k, "category_id": 1, "bbox": [k, 0, 1, 1], "score": 0.5} for k in range(3)]
    assert pack_rows(rows).select(index).image_ids.tolist() == [0, 2]
