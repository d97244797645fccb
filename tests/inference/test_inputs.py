"""Collecting the inputs given on the command line."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from detector.core.errors import UserError
from detector.inference.inputs import Input, collect_inputs, name_input

OUT = Path("predictions")
FILES = ("b.jpg", "a.PNG", "deep/er/c.tif", "deep/clip.MP4", "deep/notes.txt", "Makefile", ".hidden/d.jpg",
         "predictions/pictures/b.jpg", "a[1].jpg", "7")  # fmt: skip


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in FILES:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("")


def names(*given: str) -> list[str]:
    return [one.path.as_posix() for one in collect_inputs(list(given), OUT).inputs]


def test_folders_are_searched_except_the_output_and_hidden_ones() -> None:
    inputs = collect_inputs(["."], OUT)
    assert [one.path.as_posix() for one in inputs.inputs] == [
        "a.PNG", "a[1].jpg", "b.jpg", "deep/clip.MP4", "deep/er/c.tif",
    ]  # fmt: skip
    assert [one.kind for one in inputs.inputs] == ["image", "image", "image", "video", "image"]
    assert inputs.skipped == {".txt": 1, "no suffix": 2}


def test_patterns() -> None:
    assert names("*.jpg") == ["a[1].jpg", "b.jpg"]
    assert names("**/*.jpg") == ["a[1].jpg", "b.jpg"], "the output folder is excluded"
    assert names("deep/**/*") == ["deep/clip.MP4", "deep/er/c.tif"]
    assert names("a[1].jpg") == ["a[1].jpg"], "an existing file is not a pattern"


def test_duplicates_are_removed_and_the_order_is_kept() -> None:
    inputs = collect_inputs(["deep", "b.jpg", "./b.jpg", str(Path("b.jpg").absolute()), "."], OUT)
    assert [one.path.as_posix() for one in inputs.inputs] == [
        "deep/clip.MP4", "deep/er/c.tif", "b.jpg", "a.PNG", "a[1].jpg",
    ]  # fmt: skip
    assert inputs.duplicates == 5


def test_a_file_given_by_name_may_have_any_suffix() -> None:
    assert collect_inputs(["Makefile"], OUT).inputs == [Input(Path("Makefile"), "image")]


def test_a_number_is_a_camera_unless_a_file_has_that_name() -> None:
    assert collect_inputs(["0"], OUT).inputs == [Input(Path("0"), "camera")]
    assert collect_inputs(["7"], OUT).inputs == [Input(Path("7"), "image")]
    with pytest.raises(UserError, match="camera must be the only input"):
        collect_inputs(["0", "b.jpg"], OUT)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no.jpg", r"no\.jpg: no such file or folder"),
        ("nowhere/", "nowhere/: no such file or folder"),
        ("*.gif", r"\*\.gif: no file matches this pattern"),
        ("predictions/**/*.jpg", "no file matches this pattern outside the output folder"),
        ("predictions", "predictions: lies in the output folder"),
        ("predictions/pictures", "predictions/pictures: lies in the output folder"),
        ("https://example.org/a.jpg", "URLs are not supported"),
        ("rtsp://camera/1", "URLs are not supported"),
        ("deep/empty", "deep/empty: no images or videos"),
        ("pipe.jpg", r"pipe\.jpg: .*a device or a pipe"),
    ],
)
def test_invalid_inputs(text: str, message: str) -> None:
    Path("deep/empty").mkdir()
    os.mkfifo("pipe.jpg")
    with pytest.raises(UserError, match=message):
        collect_inputs([text], OUT)


@pytest.mark.parametrize(("name", "problem"), [("a\nb", r"U\+000A"), ("a\udcff", "not UTF-8")])
def test_a_folder_whose_name_results_cannot_contain(name: str, problem: str) -> None:
    Path(name).mkdir()
    Path(name, "c.jpg").touch()
    with pytest.raises(UserError, match=f"{problem}; rename the folder"):
        collect_inputs([name], OUT)
    with pytest.raises(UserError, match=f"{problem}; rename the folder"):
        collect_inputs(["b.jpg"], Path(name))
    assert collect_inputs([name, "b.jpg"], OUT).root == Path.cwd(), "then each image is reported"


def test_a_pipe_in_a_folder_is_skipped_and_a_broken_link_is_kept() -> None:
    """The broken link is reported as unreadable later."""
    os.mkfifo("deep/pipe.jpg")
    Path("deep/link.jpg").symlink_to("nowhere.jpg")
    inputs = collect_inputs(["deep"], OUT)
    assert Input(Path("deep/link.jpg"), "image") in inputs.inputs
    assert inputs.skipped == {".txt": 1, "not a file": 1}


def test_links_to_folders_are_not_followed() -> None:
    Path("deep/loop").symlink_to("..")
    assert names("deep") == ["deep/clip.MP4", "deep/er/c.tif"]


def test_a_text_file_lists_paths_of_the_current_folder_or_its_own() -> None:
    """Patterns, camera numbers and further lists are no paths; a missing one is reported when it is read."""
    Path("deep/list.TXT").write_text("b.jpg\r\n\nclip.MP4\nnowhere.jpg\n*.jpg\n3\ndeep/er\nb.jpg\n", "utf-8")
    collected = collect_inputs(["deep/list.TXT"], OUT)
    assert [one.path.as_posix() for one in collected.inputs] == [
        "b.jpg", "deep/clip.MP4", "nowhere.jpg", "*.jpg", "3", "deep/er/c.tif",
    ]  # fmt: skip
    assert [one.kind for one in collected.inputs] == ["image", "video", "image", "image", "image", "image"]
    assert collected.duplicates == 1


def test_standard_input_lists_paths(monkeypatch: pytest.MonkeyPatch) -> None:
    given = io.TextIOWrapper(io.BytesIO("a.PNG\nü.jpg\nb.jpg\n".encode()))
    monkeypatch.setattr("sys.stdin", given)
    assert names("-", "deep/clip.MP4") == ["a.PNG", "ü.jpg", "b.jpg", "deep/clip.MP4"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"list\.txt: no paths; expected one path per line"),
        ("no.jpg\nnor.jpg\n", r"list\.txt: no file or folder 'no\.jpg', nor any other path in it"),
        ("b.jpg\nhttps://example.org/a.jpg\n", "URLs are not supported"),
    ],
)
def test_invalid_lists(content: str, message: str) -> None:
    Path("list.txt").write_text(content)
    with pytest.raises(UserError, match=message):
        collect_inputs(["list.txt"], OUT)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["deep"], ["clip.MP4", "er/c.tif"]),
        (["deep/er/c.tif"], ["c.tif"]),
        (["deep/er", "b.jpg"], ["deep/er/c.tif", "b.jpg"]),
        (["deep/**/*.tif", "deep/clip.MP4"], ["er/c.tif", "clip.MP4"]),
        (["0"], ["0"]),
    ],
)
def test_names_are_relative_to_the_innermost_folder_of_what_was_given(given: list[str], expected: list[str]) -> None:
    collected = collect_inputs(given, OUT)
    assert [name_input(one.path, collected.root) for one in collected.inputs] == expected


def test_names_resolve_links_to_folders(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("deep")
    collected = collect_inputs(["link"], OUT)
    assert [name_input(one.path, collected.root) for one in collected.inputs] == ["clip.MP4", "er/c.tif"]
