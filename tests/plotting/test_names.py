"""Names of any length and with any characters fit on one line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.plotting.names import shorten_name


@pytest.mark.parametrize(
    ("name", "short"), [("bolt", "bolt"), ("two\nrow", "two row"), ("0123456789", "0123…789"), ("01234567", "01234567")]
)
def test_the_middle_is_left_out(name: str, short: str) -> None:
    assert shorten_name(name, 8) == short


@pytest.mark.parametrize("character", ["\ufffe", "\uffff", "\x00", "\x1b", "\ud800"])
def test_what_no_chart_can_hold_is_replaced(character: str) -> None:
    assert shorten_name(f"a{character}ü\u200b😀") == "a\ufffdü\u200b😀"


@given(st.text(), st.integers(4, 40))
def test_no_name_is_longer_than_allowed(name: str, length: int) -> None:
    short = shorten_name(name, length)
    assert len(short) <= length
    assert "\n" not in short
