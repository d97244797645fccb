"""A trial: one DVC experiment per seed, followed epoch by epoch and stopped early when it is pruned."""

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
from detector.training.sweep_report import REPORT_VARIABLE
from sweeping.settings import TRAIN_SEED, Plan, flatten
from sweeping.study import suggest_values

EXPERIMENT_SCRIPT = Path(__file__).with_name("dvc_experiment.py")
POLL_SECONDS = 0.1
STOP_TIMEOUT = 300  # seconds that an interrupted training has to save and end

EpochCallback = Callable[[dict[str, Any]], None]


class TrialFailed(Exception):
    """The experiment ended with an error, which its log shows."""


class SweepStopped(Exception):
    """The sweep was asked to stop."""


class SweepContext(NamedTuple):
    """What all trials of a sweep share; `stopping` is set when the sweep is asked to stop."""

    plan: Plan
    root: Path
    folder: Path
    stopping: threading.Event


class ExperimentSpec(NamedTuple):
    """The name of a DVC experiment, the parameters that it sets, and the folder of its log."""

    name: str
    values: dict[str, Any]
    folder: Path

    def file(self, suffix: str) -> Path:
        """A file of this experiment in the sweep's folder."""
        return self.folder / f"{self.name}{suffix}"


def run_trial(trial: Trial, context: SweepContext) -> tuple[float, ...]:
    """Return the trial's objectives, averaged over the seeds.

    Only the first seed's epochs decide on pruning; the other seeds are trained if it is not pruned.
    Raises optuna.TrialPruned, SweepStopped or TrialFailed.
    """
    plan, start = context.plan, time.monotonic()
    values = suggest_values(trial, plan.space)
    trial.set_user_attr("values", values)
    experiments = build_experiments(trial.number, values, context)
    trial.set_user_attr("experiments", [experiment.name for experiment in experiments])
    results = []
    try:
        for index, experiment in enumerate(experiments):
            on_epoch = (lambda epoch: report_epoch(trial, epoch, plan)) if index == 0 else ignore_epoch
            results.append(measure_objectives(experiment, context, on_epoch))
    finally:
        trial.set_user_attr("seconds", round(time.monotonic() - start, 1))
    means = [sum(result[place] for result in results) / len(results) for place in range(len(plan.objectives))]
    trial.set_user_attr("by_seed", results)
    return tuple(means)


def build_experiments(number: int, values: dict[str, Any], context: SweepContext) -> list[ExperimentSpec]:
    """The experiments of a trial, named after its number."""
    plan, name = context.plan, f"{context.plan.sweep.name}-{number:03}"
    params = {**plan.overrides, **values}
    if not plan.sweep.seeds:
        return [ExperimentSpec(name, params, context.folder)]
    return [
        ExperimentSpec(f"{name}-seed-{seed}", {**params, TRAIN_SEED: seed}, context.folder) for seed in plan.sweep.seeds
    ]


def report_epoch(trial: Trial, epoch: dict[str, Any], plan: Plan) -> None:
    """Report the first objective after an epoch to Optuna. Raises optuna.TrialPruned."""
    value = epoch.get(plan.objectives[0].name)
    if value is None or len(plan.objectives) > 1:
        return
    trial.report(value, epoch["epoch"])
    if trial.should_prune():
        raise optuna.TrialPruned


def ignore_epoch(epoch: dict[str, Any]) -> None:
    """Do nothing with an epoch's metrics."""


def measure_objectives(experiment: ExperimentSpec, context: SweepContext, on_epoch: EpochCallback) -> list[float]:
    """Run the stages that write the objectives and return them; see `run_stages`."""
    plan = context.plan
    files = list(dict.fromkeys(objective.file for objective in plan.objectives))
    return read_objectives(run_stages(experiment, context, plan.targets, files, on_epoch), plan)


def run_stages(
    experiment: ExperimentSpec,
    context: SweepContext,
    targets: list[str],
    metrics: list[str],
    on_epoch: EpochCallback = ignore_epoch,
) -> dict[str, Any]:
    """Run stages as a DVC experiment and return the content of its metrics files. targets: empty for all stages.

    `on_epoch` may raise to stop the experiment. Raises SweepStopped or TrialFailed.
    """
    reports, result = experiment.file(".jsonl"), experiment.file(".result.json")
    for path in (reports, result):
        path.unlink(missing_ok=True)
    process = start_process(experiment, context.root, targets, metrics)
    keep = context.plan.sweep.keep_checkpoints
    try:
        follow_epochs(process, reports, context.stopping, on_epoch)
    except BaseException as error:
        stop_process(process)
        if not keep and not isinstance(error, SweepStopped):  # a stopped sweep resumes its trainings later
            remove_checkpoints(reports)
        raise
    if not result.exists():
        if not keep:
            remove_checkpoints(reports)
        raise TrialFailed(experiment.file(".log"))
    return dict(json.loads(result.read_text(encoding="utf-8"))["metrics"])


def start_process(
    experiment: ExperimentSpec, root: Path, targets: list[str], metrics: list[str]
) -> subprocess.Popen[bytes]:
    """Start an experiment in its own process group, so Ctrl-C does not reach it directly."""
    request = {
        "name": experiment.name,
        "targets": targets,
        "params": [format_override(key, value) for key, value in experiment.values.items()],
        "metrics": metrics,
        "lock": str(experiment.folder.parent / "lock"),  # one for all sweeps of this clone
        "result": str(experiment.file(".result.json")),
    }
    environment = {**os.environ, REPORT_VARIABLE: str(experiment.file(".jsonl")), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, str(EXPERIMENT_SCRIPT), json.dumps(request)]
    with experiment.file(".log").open("wb") as log:
        return subprocess.Popen(
            command,
            cwd=root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def follow_epochs(
    process: subprocess.Popen[bytes], reports: Path, stopping: threading.Event, on_epoch: EpochCallback
) -> None:
    """Call `on_epoch` per reported epoch until the process ends. Raises SweepStopped, or what `on_epoch` raises."""
    seen = 0
    while process.poll() is None:
        time.sleep(POLL_SECONDS)
        lines = read_reports(reports)
        for line in lines[seen:]:
            if "epoch" in line:
                on_epoch(line)
        seen = len(lines)
        if stopping.is_set():
            raise SweepStopped


def format_override(key: str, value: Any) -> str:
    """`key=value` for `dvc exp run -S`, the value as JSON, which is YAML."""
    return f"{key}={json.dumps(value)}"


def read_reports(path: Path) -> list[dict[str, Any]]:
    """The complete lines that a training has reported so far."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n")[:-1]]


def stop_process(process: subprocess.Popen[bytes]) -> None:
    """Interrupt an experiment as Ctrl-C does: the training saves, DVC cleans up. Kill it after STOP_TIMEOUT."""
    for number in (signal.SIGINT, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(STOP_TIMEOUT)
            return
        except subprocess.TimeoutExpired:
            continue
        except ProcessLookupError:
            process.wait()
            return


def remove_checkpoints(reports: Path) -> None:
    """Remove the checkpoints of a training that nobody will resume."""
    for line in read_reports(reports):
        if "checkpoints" in line:
            shutil.rmtree(line["checkpoints"], ignore_errors=True)


def read_objectives(metrics: dict[str, Any], plan: Plan) -> list[float]:
    """The objectives in the metrics files. Raises UserError when one is missing."""
    values = []
    for objective in plan.objectives:
        value = dict(flatten(metrics[objective.file])).get(objective.key)
        if not isinstance(value, (int, float)):
            raise UserError(f"sweep.yaml: {objective.file} has no number `{objective.key}` after the first trial")
        values.append(float(value))
    return values
