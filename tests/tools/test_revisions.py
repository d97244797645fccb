"""Files of a revision in real repositories of git and DVC, where the project is git's root or a folder in it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from detector.core.errors import UserError
from revisions import open_files, project_folder, read_git_file
from tests.support.repository import Repository, environment_for


@pytest.fixture(params=["", "detectors/bolts"], ids=["root", "folder"])
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Repository:
    """A file of DVC and one of git with two versions, `v1` and the newest; cache and remote have relative paths."""
    environment = environment_for(tmp_path / "settings")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    root = tmp_path / "git" / request.param
    root.mkdir(parents=True)
    repository = Repository(root, environment)
    Repository(tmp_path / "git", environment).git("init", "--quiet")
    repository.dvc("init", "--quiet", *(["--subdir"] if request.param else []))
    repository.dvc("config", "cache.dir", os.path.relpath(tmp_path / "cache", root))
    repository.dvc("remote", "add", "--quiet", "--default", "storage", os.path.relpath(tmp_path / "storage", root))
    for content in ("one", "two"):
        (root / "data").mkdir(exist_ok=True)
        (root / "data/big.txt").unlink(missing_ok=True)
        (root / "data/big.txt").write_text(f"big {content}")
        (root / "small.txt").write_text(f"small {content}")
        repository.dvc("add", "--quiet", "data/big.txt")
        repository.dvc("push", "--quiet")
        repository.commit()
        if content == "one":
            repository.git("tag", "v1")
    monkeypatch.chdir(root)
    return repository


def test_files_of_git_and_dvc_are_read_by_their_path_in_the_project(project: Repository) -> None:
    assert read_git_file("v1", "small.txt") == "small one"
    assert read_git_file("v1", "nothing.txt") is None
    assert read_git_file("nowhere", "small.txt") is None
    for revision, content in (("v1", "one"), ("HEAD", "two"), (None, "two")):
        files = open_files(revision)
        assert (files.read_text("data/big.txt"), files.read_text("small.txt")) == (f"big {content}", f"small {content}")
        assert not files.exists("nothing.txt")


def test_what_the_cache_lacks_comes_from_the_remote(project: Repository, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "cache")
    assert open_files("v1").read_text("data/big.txt") == "big one"
    (project.root / "data/big.txt").unlink()
    assert open_files(None).read_text("data/big.txt") == "big two"
    shutil.rmtree(tmp_path / "storage")
    with pytest.raises(OSError, match=r"data/big\.txt"):
        open_files("v1").read_text("data/big.txt")


def test_unknown_revisions_and_folders_are_user_errors(
    project: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert project_folder() == ("" if project.root.name == "git" else "detectors/bolts")
    with pytest.raises(UserError, match="`nowhere` is not a git revision"):
        open_files("nowhere")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="a repository of git and DVC"):
        open_files("v1")
