"""`tools/evaluate_model.py` on models by revision, experiment and artifact, in a real repository."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import evaluate_model
from detector.core.errors import UserError
from tests.support.repository import Repository, environment_for
from tests.tools.test_evaluate_model import CHECKPOINT, EXPORTED, made  # noqa: F401 - a fixture

PIPELINE = """
stages:
  train:
    cmd: cp models/other.onnx models/model.onnx
    deps: [models/other.onnx, params.yaml]
    outs: [models/model.onnx]
artifacts:
  model: {path: models/model.onnx, type: model}
"""


@pytest.fixture
def repository(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:  # noqa: F811
    """A project with a released model and an experiment, whose files are only in DVC's cache."""
    root = tmp_path / "repository"
    shutil.copytree(made, root, ignore=shutil.ignore_patterns("evaluations"))
    repository = Repository(root, environment_for(tmp_path / "settings"))
    for name, value in repository.environment.items():
        if name.startswith(("DVC", "GIT_")):
            monkeypatch.setenv(name, value)
    monkeypatch.chdir(root)
    (root / "models/model.onnx").rename(root / "models/other.onnx")
    (root / "dvc.yaml").write_text(PIPELINE)
    (root / ".gitignore").write_text("/.cache/\n/evaluations/\n")
    repository.git("init", "--quiet")
    repository.dvc("init", "--quiet")
    repository.dvc("add", "--quiet", CHECKPOINT, CHECKPOINT.replace(".safetensors", ".json"))
    repository.dvc("repro", "--quiet")
    repository.commit()
    repository.git("tag", "--annotate", "--message", "first", "model@v1.2.0")
    repository.dvc("exp", "run", "--quiet", "--name", "fewer", "-S", "evaluate.bootstrap_samples=10")
    repository.git("checkout", "--quiet", ".")
    for path in (EXPORTED, CHECKPOINT, CHECKPOINT.replace(".safetensors", ".json")):
        (root / path).unlink()
    return repository


def run(model: str, out: str) -> dict[str, Any]:
    """metrics.json of an evaluation on test."""
    evaluate_model.main([model, "test", "--out", out])
    metrics: dict[str, Any] = json.loads(Path(out, "metrics.json").read_text(encoding="utf-8"))
    return metrics


@pytest.mark.long
def test_models_by_revision_experiment_and_artifact(repository: Repository) -> None:
    plain = run("models/other.onnx", "plain")
    for model in ("HEAD", "fewer", "model@v1.2.0", "model"):
        found = run(model, f"evaluations/{model}")
        assert found["about"]["model"] == model
        assert found["about"]["sha256"] == plain["about"]["sha256"]
        assert {**found, "about": None} == {**plain, "about": None}
    assert run(f"{CHECKPOINT}@HEAD", "checkpoint")["state_F1"] > 0  # what an ONNX file has not

    evaluate_model.main(["model@v1.2.0", "test"])
    assert [path.name for path in Path("evaluations").glob("test_model-*_onnx")]
    with pytest.raises(UserError, match=r"model@v1.3.0: .* Expected the path of a model"):
        evaluate_model.main(["model@v1.3.0", "test"])
