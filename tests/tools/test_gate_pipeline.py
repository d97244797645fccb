"""The gate in a repository with a pipeline: what is outdated, running or has nothing to compare with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import gate
from detector.core.errors import UserError
from tests.support.ci_world import World


def test_a_stopped_run_does_not_pass_the_gate(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run ends after evaluate, so export is of the model before; elsewhere the data is not even there."""
    monkeypatch.chdir(world.colleague.root)
    world.colleague.replace("stages/evaluate.py", "float(pixels.max()) / 255", "float(pixels.max()) / 300")
    world.colleague.dvc("repro", "--quiet", "evaluate")
    (check,) = gate.evaluate_gate("HEAD").checks
    assert (check.passed, "`export`" in check.result) == (False, True)
    world.colleague.replace("params.yaml", "brightness: 100", "brightness: 90")
    monkeypatch.chdir(world.clone(world.push("try")).root)
    (check,) = gate.evaluate_gate("HEAD").checks
    assert (check.passed, "`evaluate`" in check.result) == (False, True)


def test_while_the_pipeline_runs_the_gate_says_so(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC's own record of a run that has not ended, or was killed, is no outdated stage."""
    monkeypatch.chdir(world.colleague.root)
    lock = Path(".dvc/tmp/rwlock")
    written = str(Path("metrics/evaluate.json").absolute())
    lock.write_text(json.dumps({"write": {written: {"pid": 1, "cmd": "dvc repro"}}}))
    with pytest.raises(UserError, match=r"is busy(.|\n)*PID 1(.|\n)*\.dvc/tmp/rwlock"):
        gate.evaluate_gate("HEAD")


def test_without_common_test_images_the_gate_fails(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole test set is replaced, so the results cannot be compared."""
    monkeypatch.chdir(world.colleague.root)
    truth = json.loads(world.colleague.read("data/coco/test.json"))
    for image in truth["images"]:
        image["content"] += " of another camera"
    path = world.colleague.root / "data/coco/test.json"
    path.unlink()
    path.write_text(json.dumps(truth))
    (check,), comparison = gate.check_regressions("HEAD", ("AP",))
    assert (check.passed, comparison) == (False, None)
    assert "cannot be compared" in check.result
    assert "test image" in check.result
