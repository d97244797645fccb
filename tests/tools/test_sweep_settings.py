"""A wrong sweep.yaml stops before anything runs, and the message says what is meant."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import optuna
import pytest

import sweeping.settings as settings
from detector.core.errors import UserError
from sweeping.settings import load_plan
from sweeping.study import grid, suggest
from tests.support.tiny_sweep import BASIC, PARAMS, PIPELINE

LR = {"low": 1e-4, "high": 1.0, "log": True}
CHOICE = {"values": ["sgd", "adamw"]}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """params.yaml, dvc.yaml and what the stage has written before."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(PARAMS)
    Path("dvc.yaml").write_text(PIPELINE)
    Path("metrics").mkdir()
    Path("metrics/train.json").write_text('{"best/AP": 0.5, "val": {"loss": 0.1}}')
    return tmp_path


def plan(**changes: Any) -> settings.Plan:
    """The plan of BASIC with changes; a value of None takes a key away."""
    values = {key: value for key, value in {**BASIC, **changes}.items() if value is not None}
    Path("sweep.yaml").write_text(json.dumps(values))
    return load_plan(Path("sweep.yaml"))


def test_a_plan_runs_the_stages_that_write_its_objectives(folder):
    found = plan()
    assert found.targets == ["train"]
    assert found.overrides == {}
    assert found.objectives == [("metrics/train.json", "best/AP", "maximize")]
    assert [objective.name for objective in found.objectives] == ["AP"]


def test_what_evaluate_writes_is_measured_on_val(folder):
    found = plan(objectives={"metrics/train.json:val.loss": "minimize", "metrics/evaluate.json:AP": "maximize"})
    assert found.targets == ["train", "evaluate"]
    assert found.overrides == {"evaluate.split": "val"}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"trails": 3}, "unknown key `trails`; did you mean `trials`?"),
        ({"trials": None}, "the key `trials` is missing"),
        ({"trials": "many"}, "`trials` is 'many'"),
        ({"name": "a name"}, "`name` is 'a name'"),
        ({"sampler": "tpu"}, "`sampler` is 'tpu'"),
        ({"pruner": {"name": "median", "warmup": 1}}, "unknown key `pruner.warmup`; did you mean `warmup_epochs`?"),
        ({"parameters": {"train.Ir": LR}}, "params.yaml has no parameter `train.Ir`; did you mean `train.lr`?"),
        ({"parameters": {"train": LR}}, "params.yaml has no parameter `train`"),
        ({"parameters": {"train.lr": {"low": 1, "hihg": 2}}}, "unknown key `parameters.train.lr.hihg`; did you mean"),
        ({"parameters": {"train.lr": {"low": 0.1, "high": 0.1}}}, "goes from 0.1 to 0.1, an empty range"),
        ({"parameters": {"train.lr": {"low": 0.1}}}, "`parameters.train.lr` needs `low` and `high`, or `values`"),
        ({"parameters": {"train.lr": {"values": []}}}, "`values` is empty"),
        ({"parameters": {"train.lr": {**LR, **CHOICE}}}, "has `values` and a range"),
        ({"parameters": {"train.lr": {**LR, "low": 0.0}}}, "`log` needs a `low` above 0"),
        ({"parameters": {"train.lr": {"low": 0.0, "high": 1.0, "step": 2.0}}}, "`step` must be above 0 and at most 1"),
        ({"parameters": {"train.epochs": {"low": 1, "high": 4, "step": 0.5}}}, "`step` is 0.5 in a range of integers"),
        ({"parameters": {"train.lr": {**LR, "when": {"train.optimizer": "sgd"}}}}, "which is no parameter before it"),
        ({"parameters": {"train.lr": {**LR, "when": {"train.optimizer": "sgd"}}, "train.optimizer": CHOICE}},
         "which is no parameter before it: put that one first"),
        ({"parameters": {"train.optimizer": CHOICE, "train.lr": {**LR, "when": {"train.optimizer": "adam"}}}},
         "`train.optimizer` is never 'adam'; its values are ['sgd', 'adamw']"),
        ({"objectives": {"metrics/train.json": "maximize"}}, "should be `file:key`"),
        ({"objectives": {"metrics/trian.json:AP": "maximize"}},
         "no stage writes the metrics file `metrics/trian.json`; did you mean `metrics/train.json`?"),
        ({"objectives": {"metrics/train.json:best/AP5": "maximize"}},
         "metrics/train.json has no number `best/AP5`; did you mean `best/AP`?"),
        ({"objectives": {"metrics/train.json:best/AP": "up"}}, "`objectives.metrics/train.json:best/AP` is 'up'"),
        ({"objectives": {}}, "`objectives` is {}"),
        ({"objectives": {"metrics/evaluate.json:threshold": "maximize"}, "pruner": {"name": "median"}},
         "nothing can be pruned by it"),
        ({"objectives": {"metrics/train.json:best/AP": "maximize", "metrics/train.json:val.loss": "minimize"},
          "sampler": "cmaes"}, "with several objectives"),
        ({"sampler": "grid"}, "a grid needs `values` or a `step` of `parameters.train.lr`"),
        ({"start": [{"train.rl": 0.1}]}, "`start` has `train.rl`, which is not in `parameters`; did you mean"),
        ({"start": [{"train.lr": 2.0}]}, "`start` has 2.0 for `train.lr`, which is outside of"),
    ],
)  # fmt: skip
def test_mistakes_are_named(folder, changes, message):
    with pytest.raises(UserError, match=r"^sweep\.yaml: ") as caught:
        plan(**changes)
    assert message in str(caught.value)


def test_a_list_is_no_sweep(folder):
    Path("sweep.yaml").write_text("- 1\n")
    with pytest.raises(UserError, match="expected the keys name, objectives, parameters"):
        load_plan(Path("sweep.yaml"))


def test_the_sweep_of_this_repository_is_fine(monkeypatch):
    monkeypatch.chdir(Path(settings.__file__).parents[2])
    found = load_plan(Path("sweep.yaml"))
    assert found.targets == ["train"]
    assert found.sweep.trials >= 12
    assert {"train.lr", "train.weight_decay", "train.state_weight"} <= set(found.space)


def test_values_come_from_their_ranges_and_under_their_conditions(folder):
    space = plan(
        parameters={
            "train.optimizer": {"values": ["sgd", "adamw", None, [1, 2]]},
            "train.momentum": {"low": 0.1, "high": 0.9, "when": {"train.optimizer": ["sgd", None]}},
            "train.epochs": {"low": 1, "high": 7, "step": 2},
            "train.lr": LR,
        }
    ).space
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    found = [suggest(study.ask(), space) for _ in range(60)]
    assert {json.dumps(values["train.optimizer"]) for values in found} == {'"sgd"', '"adamw"', "null", "[1, 2]"}
    for values in found:
        assert ("train.momentum" in values) == (values["train.optimizer"] in ("sgd", None))
        assert values["train.epochs"] in (1, 3, 5, 7)
        assert 1e-4 <= values["train.lr"] <= 1
        assert values["train.lr"] == float(f"{values['train.lr']:.4g}")
    assert len({values["train.lr"] for values in found}) == 60


def test_a_grid_has_every_step(folder):
    space = plan(
        sampler="grid",
        parameters={"train.decay": {"low": 0.1, "high": 0.5, "step": 0.2}, "train.optimizer": CHOICE},
    ).space
    assert grid(space["train.decay"]) == pytest.approx([0.1, 0.3, 0.5])
    assert grid(space["train.optimizer"]) == ['"sgd"', '"adamw"']
