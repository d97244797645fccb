"""The commands in docs/experiments.md, with a bare git remote and a folder as the DVC remote."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from tests.support.repository import Repository, stages_run
from tests.support.tiny_sweep import make_repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository with a git and a DVC remote."""
    repository = make_repository(tmp_path / "repository", tmp_path / "settings")
    repository.git("init", "--quiet", "--bare", str(tmp_path / "team.git"))
    repository.git("remote", "add", "team", str(tmp_path / "team.git"))
    repository.dvc("remote", "add", "--default", "storage", str(tmp_path / "storage"))
    repository.commit()
    repository.git("push", "--quiet", "team", "HEAD")
    return repository


def test_an_experiment_is_run_and_shared(repository: Repository, tmp_path: Path) -> None:
    output = repository.dvc("exp", "run", "--temp", "--name", "faster", "-S", "train.lr=0.01", "train")
    assert stages_run(output) == ["train"]
    assert repository.git("status", "--porcelain") == "", "--temp does not change the workspace"
    rows = json.loads(repository.dvc("exp", "diff", "HEAD", "faster", "--json"))
    assert rows["params"]["params.yaml"]["train.lr"] == {"old": "auto", "new": 0.01}
    change = rows["metrics"]["metrics/train.json"]["best.AP"]
    assert change["new"] == pytest.approx(0.87)
    assert change["diff"] > 0
    repository.dvc("exp", "branch", "faster", "faster-branch")
    assert "lr: 0.01 " in repository.git("show", "faster-branch:params.yaml")
    repository.dvc("exp", "push", "team", "faster")

    colleague = Repository(tmp_path / "colleague", repository.environment)
    repository.git("clone", "--quiet", str(tmp_path / "team.git"), str(colleague.root))
    colleague.dvc("exp", "pull", "origin", "faster")
    colleague.dvc("exp", "apply", "faster")
    assert json.loads(colleague.read("model.json"))["best"] == pytest.approx(0.87)
    colleague.dvc("exp", "remove", "faster")
    assert colleague.dvc("exp", "list").strip() == ""


def test_a_failed_experiment_changes_params_yaml_only_without_temp(repository: Repository) -> None:
    before = repository.read("params.yaml")
    with pytest.raises(AssertionError, match="the loss is not finite"):
        repository.dvc("exp", "run", "--temp", "-S", "train.decay=1.0", "train")
    assert repository.read("params.yaml") == before
    with pytest.raises(AssertionError, match="the loss is not finite"):
        repository.dvc("exp", "run", "-S", "train.decay=1.0", "train")
    assert "decay: 1.0 " in repository.read("params.yaml")
    # The file has the same size and DVC wrote it within the same second, so git does not notice the change.
    (repository.root / "params.yaml").touch()
    repository.git("checkout", "--quiet", ".")
    assert repository.read("params.yaml") == before
    repository.dvc("checkout")
    assert repository.git("status", "--porcelain") == ""
    assert repository.dvc("status").strip() == "Data and pipelines are up to date."


@pytest.mark.long
def test_a_queued_experiment_runs(repository: Repository) -> None:
    repository.dvc("exp", "run", "--queue", "--name", "later", "-S", "train.lr=0.01", "train")
    repository.dvc("queue", "start")
    deadline = time.monotonic() + 120
    while "Success" not in (status := repository.dvc("queue", "status")):
        assert "Failed" not in status, repository.dvc("queue", "logs", "later")
        assert time.monotonic() < deadline, status
        time.sleep(1)
    assert repository.git("status", "--porcelain") == ""
    repository.dvc("exp", "apply", "later")
    assert json.loads(repository.read("model.json"))["best"] == pytest.approx(0.87)
    repository.dvc("queue", "stop")


def test_the_model_is_fetched_by_name_and_version(pipeline: Repository, tmp_path: Path) -> None:
    """From a repository that is only a git server, by a user without a clone."""
    pipeline.dvc("remote", "add", "--default", "storage", str(tmp_path / "storage"))
    pipeline.commit()
    pipeline.git("tag", "--annotate", "--message", "first", "model@v1.0.0")
    pipeline.dvc("push")
    expected = (pipeline.root / "models/model.onnx").read_bytes()
    user = Repository(tmp_path / "user", pipeline.environment)
    user.root.mkdir()
    user.dvc("artifacts", "get", str(pipeline.root), "model", "--rev", "v1.0.0", "--out", "by_version.onnx")
    user.dvc("artifacts", "get", str(pipeline.root), "model", "--out", "newest.onnx")
    user.dvc("get", str(pipeline.root), "models/model.onnx", "--out", "by_path.onnx")
    for name in ("by_version", "newest", "by_path"):
        assert (user.root / f"{name}.onnx").read_bytes() == expected


def test_an_experiment_in_a_clone_without_data_fetches_what_it_reads(pipeline: Repository, tmp_path: Path) -> None:
    """Word for word what CI services run; images are fetched because the stages that read them depend on them."""
    pipeline.dvc("remote", "add", "--default", "storage", str(tmp_path / "storage"))
    pipeline.commit()
    pipeline.dvc("push")
    clone = pipeline.clone(tmp_path / "clone")
    output = clone.dvc("exp", "run", "--pull", "--allow-missing", "-S", "train.lr=0.004")
    assert stages_run(output) == ["train", "evaluate", "export"]
    for path in ("data/coco", "data/split"):
        assert (clone.root / path).exists() == (path == "data/coco"), "what no stage reads stays in the remote"
