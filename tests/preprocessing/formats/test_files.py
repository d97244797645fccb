"""Paths in annotations and the files that they name."""

from __future__ import annotations

import os
import tempfile
import unicodedata
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.core.errors import UserError
from detector.core.path_lists import find_path_problem
from detector.preprocessing.findings import FindingLog
from detector.preprocessing.formats.files import find_image, make_dataset_relative, make_relative, read_text_file

PARTS = st.lists(st.text("aé\u0301ü 你#'\"-=", min_size=1, max_size=4).filter(str.strip), min_size=1, max_size=3)

Form = Literal["NFC", "NFD"]
FORMS: st.SearchStrategy[Form] = st.sampled_from(["NFC", "NFD"])


@given(PARTS, FORMS, FORMS, st.sampled_from("/\\"), st.booleans())
def test_an_image_is_found_under_every_spelling(parts: list[str], disk: Form, text: Form, slash: str, up: bool) -> None:
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "set"
        file = folder / unicodedata.normalize(disk, "/".join([*parts, "1.jpg"]))
        file.parent.mkdir(parents=True)
        file.touch()
        name = unicodedata.normalize(text, slash.join([*["..", "set"][: 2 * up], *parts, "1.jpg"]))
        assert find_image(folder, name, [folder]) == file.relative_to(folder).as_posix()


@given(st.text(st.characters() | st.sampled_from("\n\0\udcff/\\."), max_size=12))
def test_any_text_is_a_path_without_an_exception(text: str) -> None:
    found = find_image(Path("/nowhere/set"), text, [Path("/nowhere/set"), Path("/nowhere/set/images")])
    assert isinstance(found, str)
    assert bool(find_path_problem(found)) is bool(find_path_problem(text)) or found in (".", "/")


def test_a_path_of_a_thousand_characters_is_missing(tmp_path: Path) -> None:
    assert find_image(tmp_path, "x" * 1000, [tmp_path]) == "x" * 1000


def test_dots_after_a_link_are_those_of_the_system(tmp_path: Path) -> None:
    (tmp_path / "store/night").mkdir(parents=True)
    (tmp_path / "set").mkdir()
    (tmp_path / "store/1.jpg").touch()
    (tmp_path / "set/night").symlink_to(tmp_path / "store/night")
    resolved = (tmp_path / "store/1.jpg").resolve().as_posix()
    assert make_dataset_relative(tmp_path / "set", "night/../1.jpg") == resolved
    assert find_image(tmp_path / "set", "night/../1.jpg", [tmp_path / "set"]) == resolved
    (tmp_path / "store/1.jpg").unlink()
    (tmp_path / "set/1.jpg").touch()
    assert make_dataset_relative(tmp_path / "set", "none/../1.jpg") == "1.jpg"


@pytest.mark.parametrize("dataset", ["set", "./other/../set", "link", "inside/link/../set"])
def test_any_path_to_the_dataset_gives_the_same_paths(tmp_path: Path, dataset: str) -> None:
    for name in ("set/images/1.jpg", "other/2.jpg", "inside/3.jpg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to(tmp_path / "set")
    (tmp_path / "inside/link").symlink_to(tmp_path / "other")
    folder = tmp_path / dataset
    for name in ("images/1.jpg", "images/../images/1.jpg", f"{folder}/images/1.jpg"):
        assert find_image(folder, name, [folder]) == "images/1.jpg"


def test_annotation_files_are_files_of_bounded_size(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "folder.json").mkdir()
    (tmp_path / "large.json").touch()
    os.truncate(tmp_path / "large.json", 3 << 30)
    for name, words in (
        ("pipe", "is a pipe"),
        ("folder", "is a folder"),
        ("large", "3,072 MB"),
        ("none", "No such file"),
    ):
        with pytest.raises(UserError, match=rf"{name}\.json.*{words}"):
            read_text_file(tmp_path, tmp_path / f"{name}.json", FindingLog())


@pytest.mark.parametrize("root", ["/", "/a", "/a/b"])
@pytest.mark.parametrize("path", ["/a", "/a/b", "/a/b/c.jpg", "/a/bc", "/x.jpg"])
def test_relative_paths_are_those_of_pathlib(path: str, root: str) -> None:
    expected = str(Path(path).relative_to(root)) if Path(path).is_relative_to(root) else path
    assert make_relative(path, root) == make_relative(Path(path), Path(root)) == expected
