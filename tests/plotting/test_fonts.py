"""Texts that fit into the space that there is for them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.plotting.fonts import format_count, load_font


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0"), (1234, "1,234"), (12_345, "12k"), (123_456, "123k"), (999_499, "999k"), (999_500, "1.0M"),
     (1_234_567, "1.2M"), (9_949_999, "9.9M"), (9_950_000, "10M"), (12_345_678_901, "12G")],
)  # fmt: skip
def test_counts_are_rounded_where_they_do_not_fit(count: int, text: str) -> None:
    assert format_count(count, 40, 12) == text


def test_a_count_that_fits_is_written_in_full() -> None:
    assert format_count(1_234_567, 100, 12) == "1,234,567"


@given(st.integers(0, 10**15 - 10**12))
def test_a_count_of_any_size_fits_into_a_cell(count: int) -> None:
    assert load_font(12).getlength(format_count(count, 40, 12)) <= 40
