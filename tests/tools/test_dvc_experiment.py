"""The undocumented names of DVC that sweeps use are still there."""

from __future__ import annotations

import importlib
import inspect

import dvc
import pytest

HINT = f"DVC {dvc.__version__} changed it: adapt tools/sweeping/dvc_experiment.py"


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("dvc.repo.experiments.exceptions", "ExpQueueEmptyError"),
        ("dvc.repo.experiments.queue.base", "QueueGetResult"),
        ("dvc.repo.experiments.queue.tempdir", "TempDirQueue"),
        ("dvc.repo.experiments.refs", "WORKSPACE_STASH"),
    ],
)
def test_dvc_has_the_name(module: str, name: str) -> None:
    assert hasattr(importlib.import_module(module), name), HINT


def test_the_queue_can_be_replaced() -> None:
    from dvc.repo.experiments import Experiments
    from dvc.repo.experiments.queue.tempdir import TempDirQueue

    attribute = vars(Experiments).get("tempdir_queue")
    assert attribute is not None, HINT
    assert not hasattr(attribute, "__set__"), f"no longer overridden by the instance's dict. {HINT}"
    assert list(inspect.signature(TempDirQueue.get).parameters) == ["self"], HINT
    assert list(inspect.signature(TempDirQueue).parameters)[:2] == ["repo", "ref"], HINT


def test_experiments_can_run_in_a_temporary_folder() -> None:
    from dvc.repo.experiments.queue.base import BaseStashQueue
    from dvc.repo.experiments.run import run

    assert {"targets", "params", "tmp_dir"} <= set(inspect.signature(run).parameters), HINT
    assert "name" in inspect.signature(BaseStashQueue._stash_exp).parameters, HINT
