"""The best trial against the default: an interval on val, and once per study a paired comparison on test."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import optuna

import compare
import comparison_inputs
from comparison_table import Comparison, render_comparison
from detector.core.errors import UserError
from sweeping.results import SweepResults
from sweeping.settings import EVALUATED_SPLIT, TRAIN_SEED
from sweeping.study import sweep_folder
from sweeping.trials import ExperimentSpec, SweepContext, TrialFailed, read_objectives, run_stages

DETAILS = "metrics/evaluate/details.json"  # has the intervals
TEST, VAL = "test", "val_interval"  # attributes of the study


def compare_with_default(results: SweepResults, study: optuna.Study) -> dict[str, Any]:
    """`default`: its objectives. `interval`: of the best trial on val. `test`: see `compare_on_test`.

    The study keeps the results: comparing again on test would amount to choosing by test.
    """
    test = study.user_attrs.get(TEST)
    if test is None:
        study.set_user_attr(TEST, {"trial": results.best.number, "verdict": "not finished"})
        test = compare_on_test(results)
        study.set_user_attr(TEST, test)
    interval = study.user_attrs.get(VAL)
    if interval is None or interval["trial"] != results.best.number:
        interval = {"trial": results.best.number, **read_val_interval(results)}
        study.set_user_attr(VAL, interval)
    return {"default": test.get("default"), "interval": interval, "test": test}


def run_pipeline(results: SweepResults, name: str, values: dict[str, Any]) -> dict[str, Any]:
    """Run the whole pipeline with these values as an experiment, mostly from the run cache. Returns its metrics."""
    plan = results.plan
    folder = sweep_folder(plan).resolve()
    context = SweepContext(plan, Path.cwd(), folder, threading.Event())
    seed = {TRAIN_SEED: plan.sweep.seeds[0]} if plan.sweep.seeds else {}
    experiment = ExperimentSpec(f"{plan.sweep.name}-{name}", {**values, **seed}, folder)
    print(f"running experiment {experiment.name} …", flush=True)
    files = list(dict.fromkeys([*(objective.file for objective in plan.objectives), DETAILS]))
    try:
        return run_stages(experiment, context, targets=[], metrics=files)
    except TrialFailed:
        log = experiment.file(".log")
        raise UserError(f"the experiment {experiment.name} failed; its output is in {log}") from None


def compare_on_test(results: SweepResults) -> dict[str, Any]:
    """Run the default and the best values and compare both on test.

    table: as tools/compare.py prints it. metrics: both values, the 95% interval of the difference, and p, per metric.
    """
    plan = results.plan
    default = run_pipeline(results, "default", {})
    run_pipeline(results, "best", results.best.user_attrs["values"])
    names = [f"{plan.sweep.name}-{name}" for name in ("default", "best")]
    comparison = compare.compare(*map(comparison_inputs.read_revision, names))
    metrics = {
        row.name: {
            "default": row.a,
            "best": row.b,
            "difference": row.change,
            "low": row.low,
            "high": row.high,
            "p": row.p,
            "verdict": row.verdict,
        }
        for row in comparison.metrics
    }
    metric = plan.objectives[0].name if plan.objectives[0].name in metrics else "AP"
    return {
        "trial": results.best.number,
        "metric": metric,
        "verdict": describe_verdict(comparison, metric),
        "metrics": metrics,
        "default": dict(zip([one.key for one in plan.objectives], read_objectives(default, plan), strict=True)),
        "table": render_comparison(comparison),
    }


def describe_verdict(comparison: Comparison, metric: str) -> str:
    """The result in a few words."""
    (row,) = [row for row in comparison.metrics if row.name == metric]
    words = {
        "better": "better than the default on test (significant at 5%)",
        "worse": "worse than the default on test (significant at 5%): keep the default",
        "not significant": "not significantly different from the default on test",
        "undefined": "not comparable with the default on test",
    }
    return words[row.verdict]


def read_val_interval(results: SweepResults) -> dict[str, Any]:
    """The 95% interval of the first objective's metric, from `evaluate` of the best trial on val."""
    values = {**results.best.user_attrs["values"], EVALUATED_SPLIT: "val"}
    metrics = run_pipeline(results, "best-val", values)
    name = results.plan.objectives[0].name
    numbers = metrics[DETAILS]["metrics"]
    if f"{name}_low" not in numbers:
        return {"metric": None, "low": None, "high": None}
    low, high = numbers[f"{name}_low"], numbers[f"{name}_high"]
    return {"metric": f"{name} on val", "value": numbers[name], "low": low, "high": high}
