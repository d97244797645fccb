"""What lies in a dataset folder: each file is an image, an annotation file, or passed over with a reason."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from detector.preprocessing.dataset_folder import count_files, find_files, is_hidden_name, walk_folder
from detector.preprocessing.findings import FileCounts, FindingKind, FindingLog


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def walk(folder: Path) -> dict[str, FindingKind | None]:
    entries = list(walk_folder(folder))
    assert len({entry.path for entry in entries}) == len(entries)
    return {os.path.relpath(path, folder): problem for path, problem in entries}


def test_an_empty_and_a_missing_folder(tmp_path: Path) -> None:
    assert walk(tmp_path) == {}
    assert walk(tmp_path / "none") == {".": FindingKind.SKIPPED_FOLDER}


@pytest.mark.parametrize(
    ("name", "is_hidden"),
    [
        (".DS_Store", True), ("._1.jpg", True), (".git", True), (".ipynb_checkpoints", True), ("__MACOSX", True),
        ("Thumbs.db", True), ("desktop.ini", True), ("1.jpg", False), ("_annotations.coco.json", False),
    ],
)  # fmt: skip
def test_hidden_names(name: str, is_hidden: bool) -> None:
    assert is_hidden_name(name) is is_hidden


def test_every_file_has_its_kind(tmp_path: Path) -> None:
    touch(tmp_path, "1.jpg", "a/b/2.JPG", "a/.hidden/3.jpg", "__MACOSX/x/._1.jpg", "a/Thumbs.db")
    os.mkfifo(tmp_path / "a/pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    (tmp_path / "lost.jpg").symlink_to(tmp_path / "nowhere")
    (tmp_path / "linked.jpg").symlink_to(tmp_path / "1.jpg")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    assert walk(tmp_path) == {
        "1.jpg": None,
        "linked.jpg": None,
        "a/b/2.JPG": None,
        "a/.hidden/3.jpg": FindingKind.HIDDEN_FILE,
        "__MACOSX/x/._1.jpg": FindingKind.HIDDEN_FILE,
        "a/Thumbs.db": FindingKind.HIDDEN_FILE,
        "a/pipe.jpg": FindingKind.SPECIAL_FILE,
        "zero.jpg": FindingKind.SPECIAL_FILE,
        "lost.jpg": FindingKind.BROKEN_LINK,
        "circle": FindingKind.BROKEN_LINK,
    }
    found = [path.name for path in find_files(tmp_path, (".jpg",))]
    assert sorted(found) == ["1.jpg", "2.JPG", "linked.jpg", "lost.jpg"]


def test_linked_folders_are_walked_once_and_never_back_up(tmp_path: Path) -> None:
    touch(tmp_path, "set/b/1.jpg", "store/2.jpg", "store/in/3.jpg", "other/4.jpg")
    for link, target in (
        ("set/a", "set/b"),  # a folder that is walked anyway, under its own name
        ("set/night", "store"),
        ("set/again", "store"),
        ("set/b/up", "set"),
        ("set/higher", ""),
        ("store/in/self", "store/in"),
        ("set/.hidden", "other"),
    ):
        (tmp_path / link).symlink_to(tmp_path / target)
    found = walk(tmp_path / "set")
    assert {path for path, problem in found.items() if problem is None} == {"b/1.jpg", "again/2.jpg", "again/in/3.jpg"}
    assert {path for path, problem in found.items() if problem is FindingKind.SKIPPED_FOLDER} == {
        "a", "night", "b/up", "higher", "again/in/self",
    }  # fmt: skip
    assert found[".hidden"] is FindingKind.HIDDEN_FILE


def test_many_folders_that_link_each_other_end(tmp_path: Path) -> None:
    for name in range(12):
        touch(tmp_path, f"{name}/{name}.jpg")
        for other in range(12):
            (tmp_path / f"{name}/to{other}").symlink_to(tmp_path / str(other))
    assert Counter(walk(tmp_path).values()) == {None: 12, FindingKind.SKIPPED_FOLDER: 144}


def test_the_files_sum_up(tmp_path: Path) -> None:
    touch(tmp_path, "images/1.jpg", "images/2.jpg", "images/3.heic", "labels/1.txt", "labels/3.txt", "data.yaml")
    touch(tmp_path, "images/.DS_Store", "labels/README")
    os.mkfifo(tmp_path / "labels/2.txt")
    log = FindingLog(annotation_files={f"{tmp_path}/data.yaml", f"{tmp_path}/labels/1.txt"})
    images = [f"{tmp_path}/images/1.jpg", f"{tmp_path}/images/missing.jpg", "/elsewhere/4.jpg"]
    counts = count_files(tmp_path, images, ".txt", log)
    assert counts == FileCounts(found=9, images=1, annotations=2, passed_over=6)
    assert log.counts() == {
        "note": {
            "hidden_file": 1,
            "skipped_annotation_file": 1,
            "special_file": 1,
            "unused_file": 2,
            "unused_image": 1,
        }
    }
    assert sorted((finding.kind.key, finding.where) for finding in log.listed) == [
        ("skipped_annotation_file", "labels/3.txt"),
        ("special_file", "labels/2.txt"),
        ("unused_image", "images/2.jpg"),
    ]


def test_an_image_counts_under_any_path_to_it(tmp_path: Path) -> None:
    """Through a linked folder; files that DVC links to one object of its cache are files of their own."""
    touch(tmp_path, "cache/00ff", "store/1.jpg")
    (tmp_path / "set").mkdir()
    (tmp_path / "set/night").symlink_to(tmp_path / "store")
    for name in "ab":
        (tmp_path / f"set/{name}.jpg").symlink_to(tmp_path / "cache/00ff")
    log = FindingLog()
    counts = count_files(tmp_path / "set", [f"{tmp_path}/store/1.jpg", f"{tmp_path}/set/a.jpg"], ".txt", log)
    assert counts == FileCounts(found=3, images=2, annotations=0, passed_over=1)
    assert [finding.where for finding in log.listed] == ["b.jpg"]
