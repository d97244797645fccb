"""Lists of image paths: whatever can be written is read back, and the rest is refused with its reason."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.core.path_lists import find_path_problem, read_path_list, write_path_list

ODD = st.sampled_from("\n\r\t\x00\x0b\x1c\x85\u2028\u2029\udcff\ufeff\ufffe '\"\\/#")
NAMES = st.lists(st.text(st.characters() | ODD, max_size=6), max_size=4)


@given(NAMES)
def test_names_survive_or_have_a_problem(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "list.txt"
    kept = [name for name in names if not find_path_problem(name)]
    write_path_list(path, kept)
    assert read_path_list(path) == kept
    if kept != names:
        with pytest.raises(ValueError, match="the name"):
            write_path_list(path, names)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("a/b c.jpg", ""),
        ("ü/e\u0301/你好 👍🏽.jpg", ""),
        ("a\\b.jpg", ""),
        ("", "the name is empty"),
        (" ", "the name is empty"),
        ("a\nb", "the name has the control character U+000A"),
        ("a\u2028b", "the name has the control character U+2028"),
        ("a\udcffb", "the name is not UTF-8"),
        ("a\ufffeb", "the name has U+FFFE, which is no character"),
        ("a\uffff", "the name has U+FFFF, which is no character"),
        ("\ufffd", ""),
    ],
)
def test_problems(name: str, problem: str) -> None:
    assert find_path_problem(name) == problem


def test_lists_edited_elsewhere_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"1.jpg\r\n\r\n2.jpg")
    assert read_path_list(tmp_path / "a.txt") == ["1.jpg", "2.jpg"]
