"""Text from data on a terminal and in spreadsheets."""

from __future__ import annotations

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.core.text_output import escape_controls, format_cell, parse_cell

FORMULA_STARTS = "=+-@\t\r\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain, größer 你好 👍🏽", "plain, größer 你好 👍🏽"),
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("a\r\nb\x85\u2028\x7f\x9b", r"a\x0d\x0ab\x85\u2028\x7f\x9b"),
        ("\udcff", r"\udcff"),
    ],
)
def test_control_characters_are_shown_as_escapes(text: str, shown: str) -> None:
    assert escape_controls(text) == shown
    assert escape_controls("a\nb\r", keep="\n") == "a\nb\\x0d"


@given(st.text())
def test_escaped_text_is_printable_on_any_terminal(text: str) -> None:
    shown = escape_controls(text)
    shown.encode()
    assert len(shown.splitlines()) <= 1
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for character in shown)


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=1+1", "'=1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"),
        ("-a", "'-a"),
        ("'=1", "''=1"),
        ("\t=1", r"\x09=1"),
        ("-0.5", "-0.5"),
        ("+3e5", "+3e5"),
        (-3, -3),
        (-0.25, -0.25),
        ("", ""),
        ("it's", "it's"),
        ("'quoted'", "'quoted'"),
    ],
)
def test_a_cell_is_never_a_formula_and_numbers_stay(value: object, cell: object) -> None:
    assert format_cell(value) == cell


@given(st.text().map(escape_controls) | st.from_regex(r"'*[=+\-@].*").map(escape_controls))
def test_cells_round_trip_through_csv(text: str) -> None:
    file = io.StringIO()
    csv.writer(file).writerow([format_cell(text), "x"])
    ((cell, _),) = csv.reader(io.StringIO(file.getvalue()))
    assert parse_cell(cell) == text
    is_number = True
    try:
        float(cell)
    except ValueError:
        is_number = False
    assert is_number or not cell.startswith(tuple(FORMULA_STARTS))
