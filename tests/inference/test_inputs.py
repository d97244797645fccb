"""What the inputs of a command come to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from detector.core.errors import UserError
from detector.inference.inputs import Input, gather

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
    return [one.path.as_posix() for one in gather(list(given), OUT).listed]


def test_a_folder_is_searched_through_but_not_the_output_and_hidden_ones() -> None:
    inputs = gather(["."], OUT)
    assert [one.path.as_posix() for one in inputs.listed] == [
        "a.PNG", "a[1].jpg", "b.jpg", "deep/clip.MP4", "deep/er/c.tif",
    ]  # fmt: skip
    assert [one.kind for one in inputs.listed] == ["image", "image", "image", "video", "image"]
    assert inputs.left_out == {".txt": 1, "no suffix": 2}


def test_patterns() -> None:
    assert names("*.jpg") == ["a[1].jpg", "b.jpg"]
    assert names("**/*.jpg") == ["a[1].jpg", "b.jpg"], "the output's are none"
    assert names("deep/**/*") == ["deep/clip.MP4", "deep/er/c.tif"]
    assert names("a[1].jpg") == ["a[1].jpg"], "a file of that name is no pattern"


def test_each_stands_once_in_the_order_given() -> None:
    inputs = gather(["deep", "b.jpg", "./b.jpg", str(Path("b.jpg").absolute()), "."], OUT)
    assert [one.path.as_posix() for one in inputs.listed] == [
        "deep/clip.MP4", "deep/er/c.tif", "b.jpg", "a.PNG", "a[1].jpg",
    ]  # fmt: skip
    assert inputs.doubles == 5


def test_a_file_that_is_named_counts_whatever_its_suffix() -> None:
    assert gather(["deep/notes.txt"], OUT).listed == [Input(Path("deep/notes.txt"), "image")]


def test_a_number_is_a_camera_unless_there_is_such_a_file() -> None:
    assert gather(["0"], OUT).listed == [Input(Path("0"), "camera")]
    assert gather(["7"], OUT).listed == [Input(Path("7"), "image")]
    with pytest.raises(UserError, match="a camera never ends"):
        gather(["0", "b.jpg"], OUT)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no.jpg", r"no\.jpg: no such file or folder"),
        ("nowhere/", "nowhere/: no such file or folder"),
        ("*.gif", r"\*\.gif: no file matches this pattern"),
        ("predictions/**/*.jpg", "no file matches"),
        ("https://example.org/a.jpg", "URLs are not fetched; download it"),
        ("rtsp://camera/1", "URLs are not fetched"),
        ("deep/empty", "deep/empty: no image or video in this folder"),
        ("pipe.jpg", r"pipe\.jpg: expected a file or a folder, found a device or a pipe"),
    ],
)
def test_what_cannot_be_an_input(text: str, message: str) -> None:
    Path("deep/empty").mkdir()
    os.mkfifo("pipe.jpg")
    with pytest.raises(UserError, match=message):
        gather([text], OUT)


def test_a_pipe_in_a_folder_is_left_out_and_a_broken_link_is_told_of_later() -> None:
    os.mkfifo("deep/pipe.jpg")
    Path("deep/link.jpg").symlink_to("nowhere.jpg")
    inputs = gather(["deep"], OUT)
    assert Input(Path("deep/link.jpg"), "image") in inputs.listed
    assert inputs.left_out == {".txt": 1, "no file": 1}


def test_links_to_folders_are_not_followed() -> None:
    Path("deep/loop").symlink_to("..")
    assert names("deep") == ["deep/clip.MP4", "deep/er/c.tif"]
