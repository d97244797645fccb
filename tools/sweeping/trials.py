"""A trial: a DVC experiment for each of its seeds, watched epoch by epoch and ended early when it is no good."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import optuna
from optuna.trial import Trial

from detector.core.errors import UserError
from detector.training.reporting import REPORT
from sweeping.progress import Board
from sweeping.settings import SEED, Plan, flattened
from sweeping.study import suggest

DRIVER = Path(__file__).with_name("experiment.py")
POLL = 0.1  # seconds
PATIENCE = 300  # seconds that an interrupted training has to save and end


class TrialFailed(Exception):
    """The experiment ended with an error of its own; its log says which."""


class Interrupted(Exception):
    """The sweep is asked to stop."""


class Pruned(Exception):
    """The experiment was ended because others had been better at that epoch."""


class Surroundings(NamedTuple):
    """What all trials of a sweep share; stopping: set when the sweep is asked to stop."""

    plan: Plan
    root: Path
    folder: Path
    board: Board
    stopping: threading.Event


class Experiment(NamedTuple):
    """One DVC experiment: its name, what it sets, and where it is logged."""

    name: str
    values: dict[str, Any]
    folder: Path

    def file(self, suffix: str) -> Path:
        """A file of this experiment in the sweep's folder."""
        return self.folder / f"{self.name}{suffix}"


def run_trial(trial: Trial, around: Surroundings) -> tuple[float, ...]:
    """The trial's objectives, the mean over the seeds.

    Raises optuna.TrialPruned, Interrupted or TrialFailed. By the epochs of its first seed it may be pruned; the others
    are trained only if it is not.
    """
    plan, began = around.plan, time.monotonic()
    values = suggest(trial, plan.space)
    trial.set_user_attr("values", values)
    experiments = experiments_of(trial.number, values, around)
    trial.set_user_attr("experiments", [experiment.name for experiment in experiments])
    around.board.begin(trial.number, values)
    results = []
    try:
        for place, experiment in enumerate(experiments):
            on_epoch = (lambda epoch: judge(trial, epoch, around)) if place == 0 else (lambda epoch: None)
            results.append(run_experiment(experiment, around, on_epoch))
    except Pruned:
        raise optuna.TrialPruned from None
    finally:
        trial.set_user_attr("seconds", round(time.monotonic() - began, 1))
    means = [sum(result[place] for result in results) / len(results) for place in range(len(plan.objectives))]
    trial.set_user_attr("by_seed", results)
    return tuple(means)


def experiments_of(number: int, values: dict[str, Any], around: Surroundings) -> list[Experiment]:
    """The experiments of a trial, named after it."""
    plan, name = around.plan, f"{around.plan.sweep.name}-{number:03}"
    given = {**plan.overrides, **values}
    if not plan.sweep.seeds:
        return [Experiment(name, given, around.folder)]
    return [Experiment(f"{name}-seed-{seed}", {**given, SEED: seed}, around.folder) for seed in plan.sweep.seeds]


def judge(trial: Trial, epoch: dict[str, Any], around: Surroundings) -> None:
    """Tell Optuna what an epoch reached. Raises Pruned when others were better by then."""
    objective = around.plan.objectives[0]
    value = epoch.get(objective.name)
    around.board.epoch(trial.number, epoch["epoch"], value)
    if value is None or len(around.plan.objectives) > 1:
        return
    trial.report(value, epoch["epoch"])
    if trial.should_prune():
        raise Pruned


def run_experiment(
    experiment: Experiment, around: Surroundings, on_epoch: Callable[[dict[str, Any]], None]
) -> list[float]:
    """The objectives of the stages that a trial needs; see `run_stages`."""
    plan = around.plan
    files = list(dict.fromkeys(objective.file for objective in plan.objectives))
    return objectives_in(run_stages(experiment, around, plan.targets, files, on_epoch), plan)


def run_stages(
    experiment: Experiment,
    around: Surroundings,
    targets: list[str],
    metrics: list[str],
    on_epoch: Callable[[dict[str, Any]], None] = lambda epoch: None,
) -> dict[str, Any]:
    """Run stages as an experiment and return its metrics files. targets: none for all stages.

    `on_epoch` may raise to end it. Raises Interrupted or TrialFailed.
    """
    told, result = experiment.file(".jsonl"), experiment.file(".result.json")
    for path in (told, result):
        path.unlink(missing_ok=True)
    process = start(experiment, around.root, targets, metrics)
    keep = around.plan.sweep.keep_checkpoints
    try:
        watch(process, told, around.stopping, on_epoch)
    except BaseException as error:
        interrupt(process)
        if not keep and not isinstance(error, Interrupted):  # an interrupted training goes on later
            remove_checkpoints(told)
        raise
    if not result.exists():
        if not keep:
            remove_checkpoints(told)
        raise TrialFailed(experiment.file(".log"))
    return dict(json.loads(result.read_text(encoding="utf-8"))["metrics"])


def start(experiment: Experiment, root: Path, targets: list[str], metrics: list[str]) -> subprocess.Popen[bytes]:
    """The process that runs an experiment, in a process group of its own: Ctrl-C reaches it only through us."""
    request = {
        "name": experiment.name,
        "targets": targets,
        "params": [override(key, value) for key, value in experiment.values.items()],
        "metrics": metrics,
        "lock": str(experiment.folder.parent / "lock"),  # one for all sweeps of this clone
        "result": str(experiment.file(".result.json")),
    }
    environment = {**os.environ, REPORT: str(experiment.file(".jsonl")), "PYTHONUNBUFFERED": "1"}
    with experiment.file(".log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, str(DRIVER), json.dumps(request)], cwd=root, env=environment, stdin=subprocess.DEVNULL,
            stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip


def watch(
    process: subprocess.Popen[bytes],
    told: Path,
    stopping: threading.Event,
    on_epoch: Callable[[dict[str, Any]], None],
) -> None:
    """Hand on each epoch that is told until the process ends. Raises Interrupted, or what `on_epoch` raises."""
    seen = 0
    while process.poll() is None:
        time.sleep(POLL)
        lines = read_lines(told)
        for line in lines[seen:]:
            if "epoch" in line:
                on_epoch(line)
        seen = len(lines)
        if stopping.is_set():
            raise Interrupted


def override(key: str, value: Any) -> str:
    """`key=value` as `dvc exp run -S` takes it: YAML's plain words, and JSON for the rest."""
    return f"{key}={json.dumps(value)}"


def read_lines(path: Path) -> list[dict[str, Any]]:
    """What a training has told so far; a line that is not complete yet comes next time."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def interrupt(process: subprocess.Popen[bytes]) -> None:
    """End an experiment as Ctrl-C does: the training saves, DVC clears up. After PATIENCE it is killed."""
    for number, seconds in ((signal.SIGINT, PATIENCE), (signal.SIGKILL, PATIENCE)):
        try:
            os.killpg(process.pid, number)
            process.wait(seconds)
            return
        except subprocess.TimeoutExpired:
            continue
        except ProcessLookupError:
            process.wait()
            return


def remove_checkpoints(told: Path) -> None:
    """Remove the folder that this training would go on from; nobody will run it again."""
    for line in read_lines(told):
        if "checkpoints" in line:
            shutil.rmtree(line["checkpoints"], ignore_errors=True)


def objectives_in(metrics: dict[str, Any], plan: Plan) -> list[float]:
    """The objectives in the metrics files. Raises UserError when one is not there."""
    values = []
    for objective in plan.objectives:
        value = dict(flattened(metrics[objective.file])).get(objective.key)
        if not isinstance(value, (int, float)):
            raise UserError(f"sweep.yaml: {objective.file} has no number `{objective.key}` after the first trial")
        values.append(float(value))
    return values
