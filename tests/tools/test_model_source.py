"""A model by path, revision and artifact, in a real repository of git, DVC and GTO."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import model_source
from detector.core.errors import UserError
from model_source import Named, model_path, parse
from tests.support.repository import SOURCE, Repository, environment_for

DECLARED = yaml.safe_load((SOURCE / "dvc.yaml").read_text(encoding="utf-8"))["artifacts"]
ARTIFACTS = {"model": "models/model.onnx"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Repository:
    """Two commits, with the model `one` and then `two`, the first registered as v1.0.0 and in use as prod."""
    folder = tmp_path_factory.mktemp("source")
    (folder / "repository/models").mkdir(parents=True)
    repository = Repository(folder / "repository", environment_for(folder / "settings"))
    repository.git("init", "--quiet")
    repository.dvc("init", "--quiet")
    (repository.root / "dvc.yaml").write_text(yaml.safe_dump({"artifacts": DECLARED}))
    (repository.root / ".gitignore").write_text(".cache/\n")
    for content in ("one", "two"):
        (repository.root / "models/model.onnx").write_text(content)
        repository.dvc("add", "--quiet", "models/model.onnx")
        repository.commit()
    repository.git("tag", "--annotate", "first", "HEAD~1", "--message", "an ordinary tag")
    repository.run("gto", "register", "model", "HEAD~1", "--version", "v1.0.0")
    repository.run("gto", "assign", "model", "--version", "v1.0.0", "--stage", "prod")
    (repository.root / "models/model.onnx").unlink()
    return repository


@pytest.fixture
def here(made: Repository, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in os.environ:
        if name.startswith(("DVC", "GIT_")):
            monkeypatch.delenv(name)
    for name, value in made.environment.items():
        if name.startswith(("DVC", "GIT_")):
            monkeypatch.setenv(name, value)
    monkeypatch.chdir(made.root)
    return made.root


@pytest.mark.parametrize(
    ("text", "content"),
    [
        ("HEAD", "two"),
        ("first", "one"),
        ("models/model.onnx@HEAD~1", "one"),
        ("model@HEAD", "two"),
        ("model@v1.0.0", "one"),
        ("model#prod", "one"),
        ("model", "one"),
    ],
)
def test_what_is_not_on_the_disk_is_fetched(here: Path, text: str, content: str) -> None:
    path = model_path(text)
    assert path.read_text() == content
    assert path.suffix == ".onnx"
    assert path.is_relative_to(".cache/models")


def test_it_is_fetched_once(here: Path) -> None:
    path = model_path("first")
    path.write_text("kept")
    assert model_path("models/model.onnx@first").read_text() == "kept"
    path.unlink()


@pytest.mark.parametrize(
    "text", ["model@v2.0.0", "model#dev", "nothing", "other.onnx@HEAD", "models/model.onnx@", "model@nothing"]
)
def test_what_is_nowhere(here: Path, text: str) -> None:
    with pytest.raises(UserError, match=rf"{text}: neither a file nor .* Expected the path of an ONNX file"):
        model_path(text)


def test_what_the_cache_has_lost(here: Path) -> None:
    (here / ".dvc/cache").rename(here / ".dvc/lost")
    try:
        with pytest.raises(UserError, match="`dvc pull`"):
            model_path("HEAD~1")
        assert not list(Path(".cache/models").rglob("*.part"))
    finally:
        (here / ".dvc/cache").rmdir() if (here / ".dvc/cache").exists() else None
        (here / ".dvc/lost").rename(here / ".dvc/cache")


def test_dvc_gets_the_artifact(made: Repository, tmp_path: Path) -> None:
    made.dvc("artifacts", "get", str(made.root), "model", "--rev", "v1.0.0", "--out", str(tmp_path / "got.onnx"))
    assert (tmp_path / "got.onnx").read_text() == "one"


@pytest.mark.parametrize("text", ["a.onnx", "models/b.onnx"])
def test_a_path_stays_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.chdir(tmp_path)
    assert model_path(text) == Path(text)
    (tmp_path / "dvc.yaml").write_text("")
    assert model_path(text) == Path(text)
    Path("model@v1.0.0").touch()
    assert model_path("model@v1.0.0") == Path("model@v1.0.0")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("main", Named(revision="main")),
        ("main@{1}", Named(revision="main@{1}")),
        ("@", Named(revision="@")),
        ("model", Named(artifact="model")),
        ("model@v1.0.0", Named(artifact="model", version="v1.0.0")),
        ("model@v1", Named(revision="v1")),
        ("model#prod", Named(artifact="model", stage="prod")),
        ("deep/other.onnx@main", Named("deep/other.onnx", "main")),
    ],
)
def test_what_a_text_means(text: str, named: Named) -> None:
    assert parse(text, ARTIFACTS) == named


def test_a_path_needs_no_dvc() -> None:
    code = (
        "import sys; sys.path.insert(0, 'tools'); from model_source import model_path; model_path('x.onnx'); "
        "sys.exit(bool({'dvc', 'yaml', 'torch'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=SOURCE, check=True)


def test_without_dvc(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dvc.repo", None)
    with pytest.raises(UserError, match="HEAD: no such file; to take it for a revision or an artifact, install DVC"):
        model_path("HEAD")
    assert model_source.model_path("x.onnx") == Path("x.onnx")
