"""Images by base name, in another case, by a URL or a path of another computer; never a guess."""

from __future__ import annotations

from pathlib import Path

import pytest

from detector.preprocessing.findings import FindingKind, FindingLog
from detector.preprocessing.formats.image_lookup import Located, locate_images, locate_paths
from detector.preprocessing.raw_annotations import RawImage


def locate(folder: Path, files: list[str], paths: list[str]) -> tuple[dict[str, Located], FindingLog]:
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    log = FindingLog()
    return locate_paths(folder, {path: f"a.json: {path}" for path in paths}, log), log


@pytest.mark.parametrize(
    ("path", "file", "reason"),
    [
        ("1.jpg", "photos/night/1.jpg", "other folder"),
        ("night/1.jpg", "photos/night/1.jpg", "other folder"),
        ("IMG_1.JPG", "img_1.jpg", "other case"),
        ("Night/1.jpg", "photos/night/1.jpg", "other case, other folder"),
        ("a%20b%C3%A9.jpg", "a be\u0301.jpg", "URL-decoded"),
        ("/home/me/cells/night/1.jpg", "night/1.jpg", "other folder"),
        ("C:\\cells\\night\\1.jpg", "night/1.jpg", "other folder"),
        ("file:///home/me/a%20b.jpg", "a b.jpg", "URL-decoded, other folder"),
        ("s3://bucket/night/1.jpg", "images/night/1.jpg", "other folder"),
        ("http://localhost:8080/data/local-files/?d=night%2F1.jpg", "night/1.jpg", "from a URL"),
        ("https://example.org/1.jpg?raw=1", "1.jpg", "from a URL, other folder"),
        ("/data/upload/3/0a1b2c3d-1.jpg", "images/1.jpg", "without the prefix of an upload, other folder"),
    ],
)
def test_the_one_file_that_fits_is_used_and_counted(tmp_path: Path, path: str, file: str, reason: str) -> None:
    located, log = locate(tmp_path, [file, "other.jpg"], [path])
    assert located == {path: Located(file)}
    (finding,) = log.listed
    assert finding.kind is FindingKind.IMAGE_FOUND_ELSEWHERE
    assert (finding.where, finding.image) == (f"a.json: {path}", file)
    assert finding.details == f"{path} -> {file} ({reason})"


@pytest.mark.parametrize("path", ["2.jpg", "1.png", "1", "", "/", "..", "a\nb.jpg", "\0", "x" * 5000, "?d=", "%2F"])
def test_what_nothing_fits_stays_as_it_is(tmp_path: Path, path: str) -> None:
    assert locate(tmp_path, ["night/1.jpg", ".hidden/2.jpg", "2.txt"], [path])[0] == {}


def test_several_files_that_fit_equally_well_are_named(tmp_path: Path) -> None:
    located, log = locate(tmp_path, ["a/1.jpg", "b/1.jpg", "b/c/1.jpg"], ["1.jpg", "x/b/1.jpg"])
    assert located["1.jpg"] == Located("1.jpg", "3 files fit: a/1.jpg, b/1.jpg, b/c/1.jpg")
    assert located["x/b/1.jpg"] == Located("b/1.jpg"), "two parts of its path fit"
    assert len(log.listed) == 1


def test_a_file_goes_to_the_entry_that_fits_better(tmp_path: Path) -> None:
    paths = ["/x/train/1.jpg", "/x/val/1.jpg"]
    located, _ = locate(tmp_path, ["train/1.jpg"], paths)
    assert located == {paths[0]: Located("train/1.jpg")}, "the other one is missing"


def test_a_file_that_fits_two_entries_is_given_to_none(tmp_path: Path) -> None:
    located, log = locate(tmp_path, ["1.jpg"], ["/x/1.jpg", "/y/1.jpg"])
    message = "1.jpg fits 2 entries: /x/1.jpg (a.json: /x/1.jpg), /y/1.jpg (a.json: /y/1.jpg)"
    assert located == {path: Located(path, message) for path in ("/x/1.jpg", "/y/1.jpg")}
    assert log.listed == []


def test_a_file_that_an_entry_names_as_it_is_fits_no_other(tmp_path: Path) -> None:
    assert locate(tmp_path, ["1.jpg"], ["/x/1.jpg", "1.jpg"])[0] == {}


@pytest.mark.parametrize("path", ["seq1/1.jpg", "Seq1/1.jpg", "a/seq1/1.jpg", "/home/me/seq1/1.jpg", "s\u00e91/1.jpg"])
def test_a_file_of_another_folder_is_another_image(tmp_path: Path, path: str) -> None:
    located, log = locate(tmp_path, ["seq1/2.jpg", "seq2/1.jpg", "se\u03011/2.jpg"], [path, "seq1/2.jpg"])
    assert (located, log.listed) == ({}, [])


def test_a_file_outside_is_used_only_if_none_inside_fits(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    paths = [f"{tmp_path}/{name}" for name in ("1.jpg", "2.jpg", "3.jpg")]
    for path in paths[:2]:
        Path(path).touch()
    located, log = locate(folder, ["images/1.jpg"], paths)
    assert located == {paths[0]: Located("images/1.jpg")}
    assert [finding[:3] for finding in log.listed] == [
        (FindingKind.IMAGE_FOUND_ELSEWHERE, f"a.json: {paths[0]}", "images/1.jpg"),
        (FindingKind.OUTSIDE_IMAGE, f"a.json: {paths[1]}", paths[1]),
    ]


def test_images_keep_their_order_and_boxes(tmp_path: Path) -> None:
    for name in ("a/1.jpg", "b/1.jpg", "2.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    images = [RawImage(name, f"a.json: {name}", ()) for name in ("/x/2.jpg", "1.jpg", "3.jpg")]
    found = list(locate_images(tmp_path, images, FindingLog()))
    assert [image.path for image in found] == ["2.jpg", "1.jpg", "3.jpg"]
    assert [bool(image.ambiguity) for image in found] == [False, True, False]
