"""A wrong sweep.yaml is refused before anything runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import optuna
import pytest

import sweeping.settings as settings
from detector.core.errors import UserError
from detector.core.yaml_files import parse_yaml
from detector.models import MODELS
from sweeping.settings import load_plan
from sweeping.study import grid_values, suggest_values
from tests.support.tiny_sweep import BASIC, PARAMS, PIPELINE

ROOT = Path(__file__).parents[2]
LR = {"low": 1e-4, "high": 1.0, "log": True}
CHOICE = {"values": ["sgd", "adamw"]}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with params.yaml, dvc.yaml and the metrics of an earlier run."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(PARAMS)
    Path("dvc.yaml").write_text(PIPELINE)
    Path("metrics").mkdir()
    Path("metrics/train.json").write_text('{"best": {"AP": 0.5}, "val": {"loss": 0.1}}')
    return tmp_path


def make_plan(**changes: Any) -> settings.Plan:
    """The plan of BASIC with changes; a value of None removes the key."""
    values = {key: value for key, value in {**BASIC, **changes}.items() if value is not None}
    Path("sweep.yaml").write_text(json.dumps(values))
    return load_plan(Path("sweep.yaml"))


def test_the_sweep_of_this_repository_starts_with_the_recipe() -> None:
    start = parse_yaml((ROOT / "sweep.yaml").read_text())["start"]
    recipe = MODELS[parse_yaml((ROOT / "params.yaml").read_text())["train"]["model"]].recipe
    assert start == [{name: getattr(recipe, name.removeprefix("train.")) for name in start[0]}]


def test_a_plan_runs_the_stages_that_write_its_objectives(folder: Path) -> None:
    plan = make_plan()
    assert plan.targets == ["train"]
    assert plan.overrides == {}
    assert plan.objectives == [("metrics/train.json", "best.AP", "maximize")]
    assert [objective.name for objective in plan.objectives] == ["AP"]


def test_objectives_of_evaluate_are_measured_on_val(folder: Path) -> None:
    plan = make_plan(objectives={"metrics/train.json:val.loss": "minimize", "metrics/evaluate.json:AP": "maximize"})
    assert plan.targets == ["train", "evaluate"]
    assert plan.overrides == {"evaluate.split": "val"}


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
        ({"parameters": {"train.lr": {**LR, "when": {"train.optimizer": "sgd"}}}}, "`train.optimizer`"),
        ({"parameters": {"train.lr": {**LR, "when": {"train.optimizer": "sgd"}}, "train.optimizer": CHOICE}},
         "`train.optimizer`, which is not a parameter above it: move"),
        ({"parameters": {"train.optimizer": CHOICE, "train.lr": {**LR, "when": {"train.optimizer": "adam"}}}},
         "`train.optimizer` is never 'adam'; its values are ['sgd', 'adamw']"),
        ({"objectives": {"metrics/train.json": "maximize"}}, "should be `file:key`"),
        ({"objectives": {"metrics/trian.json:AP": "maximize"}},
         "no stage writes the metrics file `metrics/trian.json`; did you mean `metrics/train.json`?"),
        ({"objectives": {"metrics/train.json:best.AP5": "maximize"}},
         "metrics/train.json has no number `best.AP5`; did you mean `best.AP`?"),
        ({"objectives": {"metrics/train.json:best.AP": "up"}}, "`objectives.metrics/train.json:best.AP` is 'up'"),
        ({"objectives": {}}, "`objectives` is {}"),
        ({"objectives": {"metrics/evaluate.json:threshold": "maximize"}, "pruner": {"name": "median"}},
         "pruned"),
        ({"objectives": {"metrics/train.json:best.AP": "maximize", "metrics/train.json:val.loss": "minimize"},
          "sampler": "cmaes"}, "with several objectives"),
        ({"sampler": "grid"}, "`step` in `parameters.train.lr`"),
        ({"start": [{"train.rl": 0.1}]}, "`start` has `train.rl`, which is not in `parameters`; did you mean"),
        ({"start": [{"train.lr": 2.0}]}, "`start` has 2.0 for `train.lr`, which is outside"),
    ],
)  # fmt: skip
def test_errors_name_the_key(folder: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=r"^sweep\.yaml: ") as caught:
        make_plan(**changes)
    assert message in str(caught.value)


def test_a_list_is_refused(folder: Path) -> None:
    Path("sweep.yaml").write_text("- 1\n")
    with pytest.raises(UserError, match="expected the keys name, objectives, parameters"):
        load_plan(Path("sweep.yaml"))


def test_the_sweep_of_this_repository_is_valid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(settings.__file__).parents[2])
    plan = load_plan(Path("sweep.yaml"))
    assert plan.targets == ["train"]
    assert plan.sweep.trials >= 12
    assert {"train.lr", "train.weight_decay", "train.state_loss_weight"} <= set(plan.space)


def test_values_respect_ranges_and_conditions(folder: Path) -> None:
    space = make_plan(
        parameters={
            "train.optimizer": {"values": ["sgd", "adamw", None, [1, 2]]},
            "train.momentum": {"low": 0.1, "high": 0.9, "when": {"train.optimizer": ["sgd", None]}},
            "train.epochs": {"low": 1, "high": 7, "step": 2},
            "train.lr": LR,
        }
    ).space
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    samples = [suggest_values(study.ask(), space) for _ in range(60)]
    assert {json.dumps(values["train.optimizer"]) for values in samples} == {'"sgd"', '"adamw"', "null", "[1, 2]"}
    for values in samples:
        assert ("train.momentum" in values) == (values["train.optimizer"] in ("sgd", None))
        assert values["train.epochs"] in (1, 3, 5, 7)
        assert 1e-4 <= values["train.lr"] <= 1
        assert values["train.lr"] == float(f"{values['train.lr']:.4g}")
    assert len({values["train.lr"] for values in samples}) == 60


def test_a_grid_has_all_steps(folder: Path) -> None:
    space = make_plan(
        sampler="grid",
        parameters={"train.decay": {"low": 0.1, "high": 0.5, "step": 0.2}, "train.optimizer": CHOICE},
    ).space
    assert grid_values(space["train.decay"]) == pytest.approx([0.1, 0.3, 0.5])
    assert grid_values(space["train.optimizer"]) == ['"sgd"', '"adamw"']
