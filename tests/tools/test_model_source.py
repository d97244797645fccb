"""Models by path, revision and artifact, in a real repository with git, DVC and GTO."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from dvc_data.index import DataIndexError

import model_source
from detector.core.errors import UserError
from model_source import ModelReference, parse_reference, resolve_model
from tests.support.repository import SOURCE, Repository, environment_for

DECLARED = yaml.safe_load((SOURCE / "dvc.yaml").read_text(encoding="utf-8"))["artifacts"]
ARTIFACTS = {"model": "models/model.onnx"}
FILES = ("models/model.onnx", "models/detector.safetensors", "models/detector.json")


@pytest.fixture(scope="module", params=["", "bolts"], ids=["root", "folder"])
def made(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Repository:
    """Create two commits with the models `one` and `two`; the first is registered as v1.0.0 and assigned to prod.

    The project is git's root, or a folder of a larger repository.
    """
    folder = tmp_path_factory.mktemp("source")
    root = folder / "repository" / request.param
    (root / "models").mkdir(parents=True)
    repository = Repository(root, environment_for(folder / "settings"))
    Repository(folder / "repository", repository.environment).git("init", "--quiet")
    repository.dvc("init", "--quiet", *(["--subdir"] if request.param else []))
    artifact = f"{request.param}:model" if request.param else "model"
    (repository.root / "dvc.yaml").write_text(yaml.safe_dump({"artifacts": DECLARED}))
    (repository.root / ".gitignore").write_text(".cache/\n")
    for content in ("one", "two"):
        for name in FILES:
            (repository.root / name).write_text(content if name == FILES[0] else f"{content} {Path(name).name}")
        repository.dvc("add", "--quiet", *FILES)
        repository.commit()
    repository.git("tag", "--annotate", "first", "HEAD~1", "--message", "an ordinary tag")
    at_root = Repository(folder / "repository", repository.environment)
    at_root.run("gto", "register", artifact, "HEAD~1", "--version", "v1.0.0")
    at_root.run("gto", "assign", artifact, "--version", "v1.0.0", "--stage", "prod")
    for name in FILES:
        (repository.root / name).unlink()
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
def test_models_that_are_not_on_disk_are_fetched(here: Path, text: str, content: str) -> None:
    path = resolve_model(text)
    assert path.read_text() == content
    assert path.suffix == ".onnx"
    assert path.is_relative_to(".cache/models")


@pytest.mark.parametrize(("revision", "content"), [("HEAD~1", "one"), ("first", "one"), ("HEAD", "two")])
def test_a_checkpoint_is_fetched_with_its_card(here: Path, revision: str, content: str) -> None:
    path = resolve_model(f"models/detector.safetensors@{revision}")
    assert path.read_text() == f"{content} detector.safetensors"
    assert path.with_suffix(".json").read_text() == f"{content} detector.json"


def test_a_model_is_fetched_once(here: Path) -> None:
    path = resolve_model("first")
    path.write_text("kept")
    assert resolve_model("models/model.onnx@first").read_text() == "kept"
    path.unlink()


@pytest.mark.parametrize(
    "text", ["model@v2.0.0", "model#dev", "nothing", "other.onnx@HEAD", "models/model.onnx@", "model@nothing"]
)
def test_missing_models(here: Path, text: str) -> None:
    with pytest.raises(UserError, match=rf"{text}: .* Expected the path of a model"):
        resolve_model(text)


def test_a_model_missing_from_the_cache(here: Path) -> None:
    (here / ".dvc/cache").rename(here / ".dvc/lost")
    try:
        with pytest.raises(UserError, match="`dvc pull`"):
            resolve_model("HEAD~1")
        assert not list(Path(".cache/models").rglob("*.part"))
    finally:
        (here / ".dvc/cache").rmdir() if (here / ".dvc/cache").exists() else None
        (here / ".dvc/lost").rename(here / ".dvc/cache")


def test_a_folder_whose_list_of_files_is_missing(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: str, revision: str) -> Path:
        raise DataIndexError(f"failed to load {path}")

    monkeypatch.setattr(model_source, "_fetch_to_cache", fail)
    with pytest.raises(UserError, match=r"HEAD: .*failed to load models/model\.onnx"):
        resolve_model("HEAD")


def test_files_of_one_name_are_told_apart(here: Path) -> None:
    """Two models of one name in a revision: the second must not be taken for the first, which was fetched."""
    (here / "other").mkdir()
    (here / "other/model.onnx").write_text("another")
    subprocess.run(["git", "add", "--force", "other"], check=True)
    subprocess.run(["git", "commit", "--quiet", "--message", "Another"], check=True)
    assert resolve_model("HEAD").read_text() == "two"
    assert resolve_model("other/model.onnx@HEAD").read_text() == "another"
    subprocess.run(["git", "reset", "--quiet", "--hard", "HEAD~1"], check=True)
    (here / "models/model.onnx").unlink(missing_ok=True)


@pytest.mark.parametrize("path", ["../outside.onnx", "/tmp/outside.onnx"])
def test_a_path_outside_the_project_is_refused(here: Path, path: str) -> None:
    with pytest.raises(UserError, match="below this folder"):
        resolve_model(f"{path}@HEAD")


def test_dvc_artifacts_get(made: Repository, tmp_path: Path) -> None:
    root, name = (made.root.parent, "bolts:model") if made.root.name == "bolts" else (made.root, "model")
    made.dvc("artifacts", "get", str(root), name, "--rev", "v1.0.0", "--out", str(tmp_path / "got.onnx"))
    assert (tmp_path / "got.onnx").read_text() == "one"


@pytest.mark.parametrize("text", ["a.onnx", "models/b.onnx", ".cache/epochs/0/002/detector.safetensors"])
def test_existing_and_model_paths_are_returned_unchanged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert resolve_model(text) == Path(text)
    (tmp_path / "dvc.yaml").write_text("")
    assert resolve_model(text) == Path(text)
    Path("model@v1.0.0").touch()
    assert resolve_model("model@v1.0.0") == Path("model@v1.0.0")


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("main", ModelReference(revision="main")),
        ("main@{1}", ModelReference(revision="main@{1}")),
        ("@", ModelReference(revision="@")),
        ("model", ModelReference(artifact="model")),
        ("model@v1.0.0", ModelReference(artifact="model", version="v1.0.0")),
        ("model@v1", ModelReference(revision="v1")),
        ("model#prod", ModelReference(artifact="model", stage="prod")),
        ("deep/other.onnx@main", ModelReference("deep/other.onnx", "main")),
    ],
)
def test_parse_reference(text: str, reference: ModelReference) -> None:
    assert parse_reference(text, ARTIFACTS) == reference


def test_a_path_does_not_import_dvc() -> None:
    code = (
        "import sys; sys.path.insert(0, 'tools'); from model_source import resolve_model; resolve_model('x.onnx'); "
        "sys.exit(bool({'dvc', 'yaml', 'torch'} & set(sys.modules)))"
    )
    subprocess.run([sys.executable, "-c", code], cwd=SOURCE, check=True)


def test_without_dvc(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dvc.repo", None)
    with pytest.raises(UserError, match="HEAD: no such file; install DVC"):
        resolve_model("HEAD")
    assert model_source.resolve_model("x.onnx") == Path("x.onnx")
