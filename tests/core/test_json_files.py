"""JSON files: what is no JSON, says two things at once, or never ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.core.errors import UserError
from detector.core.json_files import parse_json, read_json
from tests.support.json_mutations import NESTED

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
)  # fmt: skip


@given(VALUES)
def test_every_value_comes_back(value: object) -> None:
    assert parse_json(json.dumps(value), "here") == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("1 2", "not valid JSON"),
        (NESTED, "nested too deeply"),
        ('{"a": ' * 100_000, "nested too deeply"),
        ("NaN", "NaN is not a number"),
        ("[1, -Infinity]", "-Infinity is not a number"),
        ("9" * 5000, "not valid JSON"),
        ('{"a": {"b": 1, "c": 2, "b": 1}}', "the key 'b' stands twice"),
    ],
)
def test_what_is_refused(text: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        parse_json(text, "model.json")
    assert str(caught.value).startswith("model.json: ")
    assert said in str(caught.value)


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"a": [1]}')
    assert read_json(path, 10) == {"a": [1]}
    with pytest.raises(UserError, match=r"a\.json "):
        read_json(path, 9)
    path.write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"a\.json is not UTF-8"):
        read_json(path, 9)
    with pytest.raises(UserError, match="is a folder"):
        read_json(tmp_path, 9)
