"""A folder becomes the dataset of params.yaml: copied, tracked by DVC, never changed."""

from __future__ import annotations

import json
import os
import shutil
import stat
import sys
from pathlib import Path
from typing import Any

import pytest
from dvc.repo import Repo

import add_dataset
from detector.core.errors import UserError
from detector.core.yaml_files import parse_yaml

ROOT = Path(__file__).resolve().parents[2]


def write_dataset(folder: Path, *names: str) -> Path:
    """A dataset in JSON Lines whose images are their names."""
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    rows = [{"image_path": name, "bounding_box_annotations": []} for name in names]
    (folder / "dataset.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params.yaml, which is the current one; `dvc` is only noted in dvc.txt."""
    root = tmp_path / "repository"
    root.mkdir()
    shutil.copy(ROOT / "params.yaml", root)
    monkeypatch.chdir(root)
    monkeypatch.setattr(add_dataset, "run_dvc", lambda *words: Path("dvc.txt").write_text(" ".join(words)))
    return root


def add(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["add_dataset.py", *words])
    add_dataset.main()


def read_values() -> tuple[str, str]:
    """Dataset and format of params.yaml."""
    section = parse_yaml(Path("params.yaml").read_text(encoding="utf-8"))["preprocess"]
    return section["dataset"], section["format"]


def snapshot(folder: Path) -> dict[str, tuple[bytes, float, int]]:
    """Bytes, time of modification and mode of each file."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: (path.read_bytes(), path.stat().st_mtime, path.stat().st_mode) for name, path in files.items()}


@pytest.mark.parametrize("is_absolute", [True, False])
def test_a_folder_outside_is_copied_and_stays_as_it_is(
    repository: Path, monkeypatch: pytest.MonkeyPatch, is_absolute: bool
) -> None:
    source = write_dataset(repository.parent / "my photos", "data/1.jpg")
    (source / ".git").mkdir()
    (source / ".git/config").write_text("secret")
    (source / "linked.jpg").symlink_to(source / "data/1.jpg")
    (source / "lost.jpg").symlink_to(source / "nowhere")
    (source / "data/1.jpg").chmod(0o400)
    before = snapshot(source)
    before_params = Path("params.yaml").read_text(encoding="utf-8").splitlines()
    add(monkeypatch, str(source) if is_absolute else "../my photos/")
    assert snapshot(source) == before
    copied = snapshot(repository / "data/raw/my_photos")
    assert sorted(copied) == ["data/1.jpg", "dataset.jsonl", "linked.jpg"]
    assert not (repository / "data/raw/my_photos/linked.jpg").is_symlink()
    assert copied["data/1.jpg"][2] & stat.S_IWUSR, "a copy can be replaced"
    assert read_values() == ("data/raw/my_photos", "auto")
    after_params = Path("params.yaml").read_text(encoding="utf-8").splitlines()
    changed = [line.split()[0] for line in after_params if line not in before_params]
    assert changed == ["dataset:"]
    assert Path("dvc.txt").read_text() == "add --quiet data/raw/my_photos"
    assert sorted(path.name for path in (repository / "data/raw").iterdir()) == ["my_photos"]


def test_a_folder_inside_is_used_where_it_is(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dataset(repository / "photos", "1.jpg")
    add(monkeypatch, "photos", "--format", "jsonl")
    assert read_values() == ("photos", "jsonl")
    assert Path("dvc.txt").read_text() == "add --quiet photos"
    add(monkeypatch, str(repository / "photos"))
    assert read_values() == ("photos", "jsonl"), "the format was given for this dataset"
    write_dataset(repository / "more", "1.jpg")
    add(monkeypatch, "more")
    assert read_values() == ("more", "auto"), "and not for that one"


def test_a_link_is_not_tracked(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dataset(repository.parent / "large", "1.jpg")
    (repository / "data/raw").mkdir(parents=True)
    (repository / "data/raw/large").symlink_to(repository.parent / "large")
    add(monkeypatch, "data/raw/large")
    assert read_values() == ("data/raw/large", "auto")
    assert not Path("dvc.txt").exists()


def test_what_dvc_does_not_track_is_not_replaced(
    repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_dataset(repository.parent / "set", "1.jpg")
    add(monkeypatch, str(source))
    add(monkeypatch, str(source))
    assert "is a copy of" in capsys.readouterr().out
    write_dataset(source, "1.jpg", "2.jpg")
    with pytest.raises(UserError, match=r"data/raw/set exists and differs .*DATASET=data/raw/set"):
        add(monkeypatch, str(source))
    monkeypatch.setattr(add_dataset, "is_tracked", lambda _: True)
    add(monkeypatch, str(source))
    assert snapshot(repository / "data/raw/set").keys() == {"1.jpg", "2.jpg", "dataset.jsonl"}
    assert "the former version is in DVC's cache" in capsys.readouterr().out
    before = snapshot(repository / "data/raw/set")
    (repository.parent / "elsewhere").mkdir()
    other = write_dataset(repository.parent / "elsewhere/set", "a.jpg", "b.jpg")
    with pytest.raises(UserError, match="data/raw/set holds another dataset"):
        add(monkeypatch, str(other))
    assert snapshot(repository / "data/raw/set") == before


def test_a_folder_that_cannot_be_read_is_an_error(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_dataset(repository.parent / "set", "1.jpg")
    (source / "private").mkdir()
    scan, check = os.scandir, os.access
    monkeypatch.setattr(os, "access", lambda path, mode: not str(path).endswith("private") and check(path, mode))

    def refuse(path: Any) -> Any:
        if str(path).endswith("private"):
            raise PermissionError(path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match="private: this folder cannot be read"):
        add(monkeypatch, str(source))
    assert not (repository / "data/raw/set").exists()


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        ("nowhere", "no such folder"),
        ("params.yaml", "is a file, expected a folder"),
        ("..", "contains this repository"),
        (".", "contains this repository"),
        ("empty", "found 0 images, but no annotations"),
        ("xml", "holds annotations, but no images"),
    ],
)
def test_a_folder_that_is_no_dataset(
    repository: Path, monkeypatch: pytest.MonkeyPatch, folder: str, message: str
) -> None:
    Path("empty").mkdir()
    Path("xml").mkdir()
    Path("xml/1.xml").write_text("<annotation/>")
    before = Path("params.yaml").read_bytes()
    with pytest.raises(UserError, match=message):
        add(monkeypatch, folder)
    assert Path("params.yaml").read_bytes() == before
    assert not Path("dvc.txt").exists()


@pytest.mark.long
def test_dvc_tracks_the_copy(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With DVC itself: a second run changes nothing, a changed folder replaces the copy, a changed copy is kept."""
    monkeypatch.undo()
    monkeypatch.chdir(repository)
    for name in ("DVC_SITE_CACHE_DIR", "DVC_GLOBAL_CONFIG_DIR", "DVC_SYSTEM_CONFIG_DIR"):
        monkeypatch.setenv(name, str(repository.parent / "dvc"))
    Repo.init(no_scm=True).close()
    source = write_dataset(repository.parent / "set", "1.jpg")
    add(monkeypatch, str(source))
    first = Path("data/raw/set.dvc").read_bytes()
    write_dataset(source, "1.jpg", "2.jpg")
    add(monkeypatch, str(source))
    assert Path("data/raw/set.dvc").read_bytes() != first
    Path("data/raw/set/2.jpg").unlink()
    with pytest.raises(UserError, match="differs"):
        add(monkeypatch, str(source))
