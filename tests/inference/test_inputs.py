"""Collecting the inputs given on the command line."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from detector.core.errors import UserError
from detector.inference.inputs import Input, collect_inputs

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
    assert collect_inputs(["deep/notes.txt"], OUT).inputs == [Input(Path("deep/notes.txt"), "image")]


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
        ("predictions/**/*.jpg", "no file matches"),
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
