"""The results of a sweep: its trials as a table, the best of them, and the files that hold both."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from optuna.trial import FrozenTrial, TrialState
from ruamel.yaml import YAML

from detector.core.errors import UserError
from detector.core.output_files import replace_file
from sweeping.settings import Plan
from sweeping.study import TrialCounts, count_trials, find_requeued, trial_outcome


class SweepResults(NamedTuple):
    """rows: one per trial, in order. front: the complete trials that no other beats in all objectives."""

    plan: Plan
    commit: str
    rows: list[dict[str, Any]]
    counts: TrialCounts
    best: FrozenTrial
    front: list[FrozenTrial]


def collect_results(plan: Plan, study: optuna.Study, number: int | None = None) -> SweepResults:
    """Collect the results; `number` replaces the best trial. Raises UserError when no trial is complete."""
    trials = study.get_trials(deepcopy=False)
    counts = count_trials(trials)
    if not counts["complete"]:
        raise UserError(f"no trial of the sweep `{plan.sweep.name}` is complete yet: `python tools/sweep.py run`")
    requeued = find_requeued(trials)
    rows = [build_row(trial, trial_outcome(trial, requeued), plan) for trial in trials]
    sign = -1 if plan.objectives[0].direction == "maximize" else 1
    front = sorted(study.best_trials, key=lambda trial: (sign * trial.values[0], trial.number))
    best = front[0] if number is None else find_complete_trial(trials, number)
    return SweepResults(plan, study.user_attrs["commit"], rows, counts, best, front)


def find_complete_trial(trials: list[FrozenTrial], number: int) -> FrozenTrial:
    """The trial with this number. Raises UserError unless it is complete."""
    complete = {trial.number: trial for trial in trials if trial.state == TrialState.COMPLETE}
    if number not in complete:
        raise UserError(f"--trial {number}: not a complete trial; complete are {', '.join(map(str, complete))}")
    return complete[number]


def build_row(trial: FrozenTrial, outcome: str, plan: Plan) -> dict[str, Any]:
    """One row of the table. `reached` is the first objective after the last epoch, known for pruned trials too."""
    values = trial.values if trial.state == TrialState.COMPLETE else [None] * len(plan.objectives)
    epochs = trial.intermediate_values
    return {
        "trial": trial.number,
        "state": outcome,
        **{objective.key: value for objective, value in zip(plan.objectives, values, strict=True)},
        "epochs": max(epochs, default=None),
        "reached": epochs[max(epochs)] if epochs else None,
        "seconds": trial.user_attrs.get("seconds"),
        **{key: trial.user_attrs.get("values", {}).get(key) for key in plan.space},
        "experiments": " ".join(trial.user_attrs.get("experiments", [])) if outcome == "complete" else None,
    }


def sum_seconds(results: SweepResults) -> float:
    """The duration of all trials together."""
    return sum(row["seconds"] or 0 for row in results.rows)


def describe_results(results: SweepResults, comparison: dict[str, Any]) -> list[str]:
    """Lines for the console. comparison: from `compare_with_default`."""
    counts = ", ".join(f"{count} {outcome}" for outcome, count in results.counts.items() if count)
    lines = [f"{counts}; {sum_seconds(results) / 60:.1f} minutes of trials on commit {results.commit[:10]}"]
    default = comparison["default"] or {}
    for objective, value in zip(results.plan.objectives, results.best.values, strict=True):
        baseline = f" (default: {default[objective.key]:.4f})" if objective.key in default else ""
        lines.append(f"{objective.file}:{objective.key} = {value:.4f}{baseline}")
    interval = comparison["interval"]
    if interval["low"] is not None:
        bounds = f"{interval['low']:.4f} to {interval['high']:.4f}"
        lines.append(f"{interval['metric']} = {interval['value']:.4f}, 95% interval {bounds}")
    if len(results.best.user_attrs["by_seed"]) > 1:
        lines.append(f"per seed: {', '.join(f'{values[0]:.4f}' for values in results.best.user_attrs['by_seed'])}")
    lines.append(f"trial {comparison['test']['trial']} is {comparison['test']['verdict']}")
    return lines


def write_csv(path: Path, results: SweepResults) -> None:
    """Write one line per trial."""
    with replace_file(path) as new, new.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(results.rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(results.rows)


def write_yaml(path: Path, results: SweepResults, comparison: dict[str, Any]) -> None:
    """Write optimization_results.yaml. comparison: from `compare_with_default`."""
    best, plan = results.best, results.plan
    document = {
        "sweep": plan.sweep.name,
        "commit": results.commit,
        "objectives": dict(plan.sweep.objectives),
        "best": {
            "trial": best.number,
            "experiments": best.user_attrs["experiments"],
            "parameters": best.user_attrs["values"],
            "values": dict(zip([objective.key for objective in plan.objectives], best.values, strict=True)),
            **({"by_seed": best.user_attrs["by_seed"]} if len(best.user_attrs["by_seed"]) > 1 else {}),
            "interval": comparison["interval"],
        },
        "default": comparison["default"],
        "test": {key: value for key, value in comparison["test"].items() if key not in ("table", "default")},
        **({"front": [trial.number for trial in results.front]} if len(plan.objectives) > 1 else {}),
        "counts": dict(results.counts),
        "seconds": round(sum_seconds(results), 1),
        "trials": "trials.csv",
    }
    writer = YAML()
    writer.width = 4096
    writer.default_flow_style = False
    with replace_file(path) as new, new.open("w", encoding="utf-8") as file:
        writer.dump(document, file)


def set_params(path: Path, values: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Write values into params.yaml, keeping its comments. Returns old and new value of each changed key."""
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 4096
    document = yaml.load(path.read_text(encoding="utf-8"))
    changed = {}
    for key, value in values.items():
        *groups, last = key.split(".")
        section = document
        for group in groups:
            section = section[group]
        if section[last] != value:
            changed[key] = (section[last], value)
            section[last] = value
    with replace_file(path) as new, new.open("w", encoding="utf-8") as file:
        yaml.dump(document, file)
    return changed
