"""The best trial beside the default: an interval on val, and the paired comparison on test, once in a study's life."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import optuna

import compare
from comparison_table import Comparison, table
from detector.core.errors import UserError
from detector.core.params import read_yaml
from sweeping.progress import Board
from sweeping.results import Outcome
from sweeping.settings import JUDGED, PIPELINE, SEED, Plan, flattened, metric_files
from sweeping.study import folder_of
from sweeping.trials import Experiment, Surroundings, TrialFailed, objectives_in, run_stages

EVALUATE = "evaluate"
TEST = "test"  # attributes of the study
INTERVAL = "interval"


def judge_best(outcome: Outcome, study: optuna.Study) -> dict[str, Any]:
    """`default`: its objectives. `interval`: of the best on val. `test`: see `compare_on_test`.

    What the study knows already is not done again: a second look at test would be a choice by test.
    """
    known = study.user_attrs.get(TEST)
    if known is None:
        study.set_user_attr(TEST, {"trial": outcome.best.number, "verdict": "begun, and not finished"})
        known = compare_on_test(outcome)
        study.set_user_attr(TEST, known)
    interval = study.user_attrs.get(INTERVAL)
    if interval is None or interval["trial"] != outcome.best.number:
        interval = {"trial": outcome.best.number, **interval_on_val(outcome)}
        study.set_user_attr(INTERVAL, interval)
    return {"default": known.get("default"), "interval": interval, "test": known}


def experiment(outcome: Outcome, name: str, values: dict[str, Any]) -> dict[str, Any]:
    """The metrics of the whole pipeline with these values, as an experiment; mostly from the run cache."""
    plan: Plan = outcome.plan
    folder = folder_of(plan).resolve()
    around = Surroundings(plan, Path.cwd(), folder, Board(plan.sweep.name, 0), threading.Event())
    seed = {SEED: plan.sweep.seeds[0]} if plan.sweep.seeds else {}
    one = Experiment(f"{plan.sweep.name}-{name}", {**values, **seed}, folder)
    print(f"experiment {one.name} …", flush=True)
    files = list(dict.fromkeys([*(objective.file for objective in plan.objectives), *evaluated()]))
    try:
        return run_stages(one, around, targets=[], metrics=files)
    except TrialFailed:
        raise UserError(f"the experiment {one.name} failed; its output is in {one.file('.log')}") from None


def evaluated() -> list[str]:
    """The metrics files of the stage `evaluate`."""
    return metric_files(read_yaml(PIPELINE)["stages"].get(EVALUATE, {}))


def compare_on_test(outcome: Outcome) -> dict[str, Any]:
    """Both on test, and whether the difference is more than luck.

    table: as tools/compare.py prints it. metrics: for each its values, the 95% interval of the difference, and p.
    """
    plan = outcome.plan
    default = experiment(outcome, "default", {})
    experiment(outcome, "best", outcome.best.user_attrs["values"])
    names = [f"{plan.sweep.name}-{name}" for name in ("default", "best")]
    comparison = compare.compare(*map(compare.read_revision, names))
    metrics = {
        row.name: {"default": row.a, "best": row.b, "difference": row.change, "low": row.low, "high": row.high,
                   "p": row.p, "verdict": row.verdict}
        for row in comparison.metrics
    }  # fmt: skip
    decisive = plan.objectives[0].name if plan.objectives[0].name in metrics else "AP"
    return {
        "trial": outcome.best.number,
        "metric": decisive,
        "verdict": verdict_of(comparison, decisive),
        "metrics": metrics,
        "default": dict(zip([one.key for one in plan.objectives], objectives_in(default, plan), strict=True)),
        "table": table(comparison),
    }


def verdict_of(comparison: Comparison, metric: str) -> str:
    """The result in one sentence."""
    (row,) = [row for row in comparison.metrics if row.name == metric]
    say = {
        "better": "better than the default on test, and that is more than luck",
        "worse": "worse than the default on test, and that is more than bad luck: keep the default",
        "open": "not told apart from the default on test: the difference is within noise",
        "none": "not comparable with the default on test",
    }
    return say[row.verdict]


def interval_on_val(outcome: Outcome) -> dict[str, Any]:
    """The 95% interval of the first objective's metric, when `evaluate` judges the best trial on val."""
    values = {**outcome.best.user_attrs["values"], JUDGED: "val"}
    metrics = experiment(outcome, "best-val", values)
    name = outcome.plan.objectives[0].name
    for file in evaluated():
        found = dict(flattened(metrics[file]))
        if f"{name}_low" in found:
            return {"of": f"{file}:{name} on val", "value": found[name], "low": found[f"{name}_low"],
                    "high": found[f"{name}_high"]}  # fmt: skip
    return {"of": None, "low": None, "high": None}
