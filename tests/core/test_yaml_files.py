"""YAML as version 1.2 says, as DVC writes it, and within limits."""

from __future__ import annotations

import io
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from ruamel.yaml import YAML

from detector.core.errors import UserError
from detector.core.yaml_files import MAX_BYTES, parse_yaml, read_yaml


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("yes", "yes"), ("no", "no"), ("on", "on"), ("off", "off"), ("y", "y"), ("12:30", "12:30"),
        ("2020-01-01", "2020-01-01"), ("1_000", "1_000"), ("0b1", "0b1"), ("=", "="),
        ("true", True), ("False", False), ("~", None), ("null", None), ("", None),
        ("010", 10), ("0o10", 8), ("0x1F", 31), ("-7", -7), ("+7", 7),
        ("1e-3", 0.001), ("1e3", 1000.0), (".5", 0.5), ("5.", 5.0), ("-.inf", float("-inf")),
    ],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_2(text: str, value: Any) -> None:
    found = parse_yaml(f"a: {text}")["a"]
    assert (found, type(found)) == (value, type(value))
    assert parse_yaml(f"a: {text}", scalars_as_text=True)["a"] == text


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**30), 10**30)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=("Cs", "Cc", "Cn", "Co")), max_size=8)
    | st.sampled_from(
        ["yes", "no", "on", "off", "12:30", "1e5", "2020-01-01", "0o7", "~", "null", "<<", "=", "- a", "#"]
    )
)
KEYS = SCALARS.filter(lambda key: isinstance(key, str))
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12
)


@given(VALUES)
def test_what_dvc_writes_is_read_back(value: Any) -> None:
    """DVC writes YAML files with ruamel."""
    writer, file = YAML(), io.StringIO()
    writer.dump({"a": value}, file)
    assert parse_yaml(file.getvalue()) == {"a": value}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a: 1\nb: 2\na: 3\n", ["'a' stands here twice", "line 3"]),
        ("a: {b: 1, b: 2}", ["'b' stands here twice"]),
        ("1: a\n0x1: b\n", ["1 stands here twice"]),
        ("a: &a [*a]", ["alias"]),
        ("? [1]\n: 2", ["a key is not plain text"]),
        ("a: !!python/object/apply:os.system [ls]", ["could not determine a constructor"]),
        ("a: !!timestamp 2020-01-01", ["could not determine a constructor"]),
        ("a: !!binary aGk=", ["could not determine a constructor"]),
        ('a: !!int "zz"', ["'zz' is not an integer"]),
        ('a: !!float "zz"', ["'zz' is not a number"]),
        ('a: !!bool "zz"', ["'zz' is not a boolean"]),
        ("a: " + "1" * 5000, ["not an integer of at most"]),
        ("[" * 10_000, ["nested"]),
        ("a: [" * 60 + "]" * 60, ["more than 50 levels"]),
        ("- a\n--- \n- b", ["expected a single document"]),
        ("a: [", ["line 1"]),
        ("a: \x00", ["special characters"]),
    ],
)
def test_what_is_refused(text: str, words: list[str]) -> None:
    with pytest.raises(yaml.YAMLError) as error:
        parse_yaml(text)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize("as_text", [False, True])
def test_aliases_do_not_expand_without_bound(as_text: bool) -> None:
    levels = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 10)]
    start = time.monotonic()
    with pytest.raises(yaml.YAMLError, match="values once aliases are expanded"):
        parse_yaml("\n".join(["l0: &l0 x", *levels]), scalars_as_text=as_text)
    assert time.monotonic() - start < 5
    assert parse_yaml("a: &a {x: 1}\nb: *a")["b"] == {"x": 1}


@given(st.text(max_size=60) | st.text("[]{}:&*!-?|>'\"#,\n a1~<", max_size=40))
def test_any_text_gives_values_or_one_kind_of_error(text: str) -> None:
    for as_text in (False, True):
        with suppress(yaml.YAMLError):
            parse_yaml(text, scalars_as_text=as_text)


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    for data, problem in (
        (b"a: [", "not valid YAML"),
        (b"a: \xff", "not UTF-8"),
        (b"#" * (MAX_BYTES + 1), "more than 16 MB"),
    ):
        path.write_bytes(data)
        with pytest.raises(UserError, match=problem):
            read_yaml(path)
    with pytest.raises(UserError, match="not a file"):
        read_yaml(tmp_path)
    with pytest.raises(UserError, match="missing"):
        read_yaml(tmp_path / "b.yaml")
