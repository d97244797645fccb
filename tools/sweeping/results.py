"""What came out of a sweep, as plain values, and the two files that hold them."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState
from ruamel.yaml import YAML

from detector.core.errors import UserError
from sweeping.settings import Plan
from sweeping.study import Count, count, fate, retried_numbers

ENOUGH = 10  # complete trials, from which their own values say what matters


class Importances(NamedTuple):
    """Shares of the variance of `of_what` that each parameter explains, the largest first; none where it is unknown."""

    of_what: str
    shares: dict[str, float]


class Outcome(NamedTuple):
    """All that a report says of the trials. rows: a trial each, in order; front: none beats these in everything."""

    plan: Plan
    commit: str
    rows: list[dict[str, Any]]
    counts: Count
    best: FrozenTrial
    front: list[FrozenTrial]
    importances: Importances


def outcome_of(plan: Plan, study: optuna.Study, number: int | None = None) -> Outcome:
    """Collect it; `number`: the trial to take for the best. Raises UserError when no trial is complete."""
    trials = study.get_trials(deepcopy=False)
    counts = count(trials)
    if not counts["complete"]:
        raise UserError(f"no trial of the sweep `{plan.sweep.name}` is complete yet: `python tools/sweep.py run`")
    retried = retried_numbers(trials)
    rows = [row_of(trial, fate(trial, retried), plan) for trial in trials]
    sign = -1 if plan.objectives[0].direction == "maximize" else 1
    front = sorted(study.best_trials, key=lambda trial: (sign * trial.values[0], trial.number))
    best = front[0] if number is None else chosen(trials, number)
    return Outcome(plan, study.user_attrs["commit"], rows, counts, best, front, importances_of(study, plan))


def chosen(trials: list[FrozenTrial], number: int) -> FrozenTrial:
    """The trial of this number. Raises UserError unless it is complete."""
    found = [trial for trial in trials if trial.number == number and trial.state == TrialState.COMPLETE]
    if not found:
        numbers = ", ".join(str(trial.number) for trial in trials if trial.state == TrialState.COMPLETE)
        raise UserError(f"--trial {number}: no such trial is complete; these are: {numbers}")
    return found[0]


def row_of(trial: FrozenTrial, state: str, plan: Plan) -> dict[str, Any]:
    """A trial as a line of the table; a pruned one has what it had reached."""
    values = trial.values if trial.state == TrialState.COMPLETE else [None] * len(plan.objectives)
    reached = trial.intermediate_values
    return {
        "trial": trial.number,
        "state": state,
        **{objective.key: value for objective, value in zip(plan.objectives, values, strict=True)},
        "epochs": max(reached, default=None),
        "reached": reached[max(reached)] if reached else None,
        "seconds": trial.user_attrs.get("seconds"),
        **{key: trial.user_attrs.get("values", {}).get(key) for key in plan.space},
        "experiments": " ".join(trial.user_attrs.get("experiments", [])) if state == "complete" else None,
    }


def importances_of(study: optuna.Study, plan: Plan) -> Importances:
    """By PED-ANOVA (Watanabe et al. 2023), of the first objective.

    When most trials were pruned, their value after the last epoch that all have reached is explained instead: a few
    complete trials say nothing, and were chosen.
    """
    finished = [trial for trial in study.get_trials(deepcopy=False) if trial.state.is_finished()]
    complete = [trial for trial in finished if trial.state == TrialState.COMPLETE]
    told = [trial for trial in finished if trial.intermediate_values and trial.state != TrialState.FAIL]
    objective = plan.objectives[0]
    if len(complete) >= ENOUGH or len(told) <= len(complete):
        values = [(trial, trial.values[0]) for trial in complete]
        of_what = f"{objective.key} of {len(complete)} complete trials"
    else:
        epoch = min(max(trial.intermediate_values) for trial in told)
        values = [(trial, trial.intermediate_values[epoch]) for trial in told if epoch in trial.intermediate_values]
        of_what = f"{objective.name} after epoch {epoch} of {len(values)} trials"
    ghost = optuna.create_study(direction=objective.direction)
    ghost.add_trials(
        [
            optuna.create_trial(params=trial.params, distributions=trial.distributions, value=value)
            for trial, value in values
        ]
    )
    try:
        found = get_param_importances(ghost, evaluator=PedAnovaImportanceEvaluator())
    except (ValueError, RuntimeError):  # fewer than two trials, or all alike
        found = {}
    shares = {key: round(share, 4) for key, share in found.items()}
    return Importances(of_what, dict(sorted(shares.items(), key=lambda item: (-item[1], item[0]))))


def write_csv(path: Path, outcome: Outcome) -> None:
    """All trials, a line each."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(outcome.rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(outcome.rows)
    path.write_text(text.getvalue(), encoding="utf-8")


def write_yaml(path: Path, outcome: Outcome, judged: dict[str, Any]) -> None:
    """optimization_results.yaml; `judged`: what `judging` found of the best trial and the default."""
    best, plan = outcome.best, outcome.plan
    values = dict(zip([objective.key for objective in plan.objectives], best.values, strict=True))
    found = {
        "sweep": plan.sweep.name,
        "commit": outcome.commit,
        "objectives": dict(plan.sweep.objectives),
        "best": {
            "trial": best.number,
            "experiments": best.user_attrs["experiments"],
            "parameters": best.user_attrs["values"],
            "values": values,
            **({"by_seed": best.user_attrs["by_seed"]} if len(best.user_attrs["by_seed"]) > 1 else {}),
            "interval": judged["interval"],
        },
        "default": judged["default"],
        "test": {key: value for key, value in judged["test"].items() if key not in ("table", "default")},
        **({"front": [trial.number for trial in outcome.front]} if len(plan.objectives) > 1 else {}),
        "importances": {"of": outcome.importances.of_what, **outcome.importances.shares},
        "counts": dict(outcome.counts),
        "seconds": round(sum(row["seconds"] or 0 for row in outcome.rows), 1),
        "trials": "trials.csv",
    }
    writer = YAML()
    writer.width = 4096
    writer.default_flow_style = False
    with path.open("w", encoding="utf-8") as file:
        writer.dump(found, file)


def set_params(path: Path, values: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Write values into params.yaml and keep its comments. Returns old and new of those that changed."""
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
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(document, file)
    return changed
