"""Reading params.yaml: YAML 1.2 floats, and a message for each error."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import Field, ValidationError

from detector.core.errors import UserError
from detector.core.params import Section, load_section
from detector.core.yaml_files import parse_yaml


class Door(Section):
    """A section within a section."""

    width: float = 1.0


class Oven(Section):
    """A section with every kind of value that the real ones have."""

    heat: float = Field(gt=0)
    minutes: int = Field(ge=0)
    mode: Literal["grill", "fan"] = "fan"
    trays: list[str] | None = None
    levels: Literal["auto"] | tuple[float, float] = "auto"
    door: Door = Door()


def load(folder: Path, source: str) -> Oven:
    path = folder / "params.yaml"
    path.write_text(source, encoding="utf-8")
    return load_section(path, "oven", Oven)


def load_error(folder: Path, source: str) -> str:
    with pytest.raises(UserError) as caught:
        load(folder, source)
    assert str(folder / "params.yaml") in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("1e-3", 0.001),
        ("5e-05", 0.00005),
        (".5e2", 50.0),
        ("1E3", 1000.0),
        ("1.e3", 1000.0),
        ("-2e+1", -20.0),
        ("+1e0", 1.0),
        ("0.5", 0.5),
        (".inf", math.inf),
        ("-.5", -0.5),
        ("+.5", 0.5),
        ("3.", 3.0),
    ],
)
def test_floats(source: str, value: float) -> None:
    read = parse_yaml(f"x: {source}\ny: [{source}]\nz: {{a: {source}}}")
    assert read == {"x": value, "y": [value], "z": {"a": value}}
    assert type(read["x"]) is float


@pytest.mark.parametrize("source", ["'1e-3'", '"5e-05"', "e3", "1e", "1e-", "1e3m", "v1e3", "e", ".", "1-3"])
def test_strings_stay_strings(source: str) -> None:
    assert parse_yaml(f"x: {source}") == {"x": source.strip("'\"")}


def test_other_values_are_read_as_usual() -> None:
    assert parse_yaml("{a: 3, b: null, c: true, d: text}") == {"a": 3, "b": None, "c": True, "d": "text"}
    assert yaml.safe_load("x: 1e-3") == {"x": "1e-3"}, "the global loader must not change"


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_written_by_python_are_read(value: float) -> None:
    assert parse_yaml(f"x: {value!r}") == {"x": value}


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_floats_written_by_yaml_are_read(value: float) -> None:
    assert parse_yaml(yaml.safe_dump({"x": value})) == {"x": value}


def test_section_is_read_and_frozen(tmp_path: Path) -> None:
    oven = load(tmp_path, "fridge: {cold: very}\noven: {heat: 1e2, minutes: 5, trays: [a]}")
    assert oven == Oven(heat=100.0, minutes=5, mode="fan", trays=["a"])
    with pytest.raises(ValidationError, match="frozen"):
        oven.heat = 3.0


@pytest.mark.parametrize(
    ("key", "nearest"),
    [("hat", "heat"), ("minute", "minutes"), ("modes", "mode"), ("tray", "trays"), ("doors", "door")],
)
def test_unknown_key_suggests_the_nearest_name(tmp_path: Path, key: str, nearest: str) -> None:
    found = load_error(tmp_path, f"oven: {{heat: 1, minutes: 5, {key}: 1}}")
    assert f"unknown key `oven.{key}`; did you mean `{nearest}`?" in found


def test_unknown_key_in_a_mapping_suggests_a_name_of_that_mapping(tmp_path: Path) -> None:
    found = load_error(tmp_path, "oven: {heat: 1, minutes: 5, door: {with: 3}}")
    assert "unknown key `oven.door.with`; did you mean `width`?" in found


def test_list_becomes_a_tuple_and_integer_a_float(tmp_path: Path) -> None:
    oven = load(tmp_path, "oven: {heat: 1, minutes: 5, levels: [1, 2.5]}")
    assert oven.levels == (1.0, 2.5)
    assert load(tmp_path, "oven: {heat: .inf, minutes: 5}").heat == math.inf


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("{heat: true, minutes: 5}", ["`oven.heat` is True", "number"]),
        ("{heat: '1', minutes: 5}", ["`oven.heat` is '1'", "number"]),
        ("{heat: 1, minutes: true}", ["`oven.minutes` is True", "integer"]),
        ("{heat: 1, minutes: 2020-01-01}", ["`oven.minutes` is '2020-01-01'", "integer"]),
        ("{heat: hot, minutes: 5}", ["`oven.heat` is 'hot'", "number"]),
        ("{heat: -1, minutes: 5}", ["`oven.heat` is -1", "greater than 0"]),
        ("{heat: 1, minutes: 5.5}", ["`oven.minutes` is 5.5", "integer"]),
        ("{heat: 1, minutes: 5, mode: steam}", ["`oven.mode` is 'steam'", "'grill' or 'fan'"]),
        ("{heat: 1, minutes: 5, trays: a}", ["`oven.trays` is 'a'", "array"]),
        ("{heat: 1, minutes: 5, trays: [a, 3]}", ["`oven.trays.1` is 3", "string"]),
        ("{heat: 1}", ["the key `oven.minutes` is missing"]),
        ("{heat: [], minutes: x, hat: 1}", ["`oven.heat`", "`oven.minutes`", "`oven.hat`"]),
    ],
)
def test_wrong_value_is_shown_with_its_key(tmp_path: Path, source: str, words: list[str]) -> None:
    found = load_error(tmp_path, f"oven: {source}")
    for word in words:
        assert word in found
    assert "pydantic" not in found


@pytest.mark.parametrize("source", ["", "fridge: {}", "oven:", "oven: 3", "oven: [heat]", "- oven", "oven"])
def test_missing_section(tmp_path: Path, source: str) -> None:
    assert "section `oven` is missing or not a mapping" in load_error(tmp_path, source)


@pytest.mark.parametrize("source", ["oven: {heat: 1", "oven: [}", "\toven: 3", "a: b: c", "oven: !!python/object:x {}"])
def test_invalid_yaml(tmp_path: Path, source: str) -> None:
    assert "is not valid YAML" in load_error(tmp_path, source)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"params\.yaml is missing.*repository"):
        load_section(tmp_path / "params.yaml", "oven", Oven)


def test_file_that_is_not_text(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_bytes(b"oven: \xff")
    with pytest.raises(UserError, match="is not UTF-8 text"):
        load_section(tmp_path / "params.yaml", "oven", Oven)
