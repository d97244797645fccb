"""Experiment loggers: TensorBoard, Weights & Biases, MLflow.

All are optional: a package is imported only when machine.yaml names it, and a logger that fails during training is
disabled. Each process start is a new run; a resumed training logs all earlier epochs again, and those earlier
iterations that iterations.tsv has kept (see `History.replay`). No curve has duplicate points.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from detector.core.errors import UserError

PROJECT = "detector"
# Arguments of `pip install`; mlflow-skinny alone can only write to a server.
PIP_PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow-skinny sqlalchemy alembic"}


SEND_SECONDS = 5.0  # between requests to an MLflow server or database, which takes longer than a fast iteration
MAX_METRICS = 1000  # in one request to MLflow


class ExperimentLogger(NamedTuple):
    """log(iteration, values) gets rising numbers, an epoch's at its last iteration; close(complete) ends the run."""

    name: str
    log: Callable[[int, dict[str, float]], None]
    close: Callable[[bool], None]


@contextmanager
def open_loggers(
    names: Sequence[str], folder: Path, run_name: str, settings: dict[str, Any]
) -> Iterator[list[ExperimentLogger]]:
    """Start the loggers of these names; `settings` are shown with the run.

    folder: for loggers whose own environment variables name no other place. Raises UserError when one cannot start.
    """
    openers = {"tensorboard": _open_tensorboard, "wandb": _open_wandb, "mlflow": _open_mlflow}
    loggers: list[ExperimentLogger] = []
    complete = False
    try:
        for name in names:
            try:
                loggers.append(openers[name](folder, run_name, settings))
            except Exception as error:  # each package raises its own errors
                raise UserError(
                    f"machine.yaml: `loggers` names {name}, which cannot start ({error}); remove it, or install "
                    f"it with `pip install {PIP_PACKAGES[name]}`"
                ) from error
        yield loggers
        complete = True
    finally:
        for logger in loggers:
            try:
                logger.close(complete)
            except Exception as error:  # the training's results do not depend on it
                print(f"warning: could not close {logger.name} ({error})", flush=True)


def _open_tensorboard(folder: Path, run_name: str, settings: dict[str, Any]) -> ExperimentLogger:
    """Write event files to folder/tensorboard/run_name; `tensorboard --logdir` shows them."""
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder / "tensorboard" / run_name), flush_secs=10)
    writer.add_text("settings", "\n".join(f"    {name}: {value}" for name, value in settings.items()))

    def log(step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)

    return ExperimentLogger("tensorboard", log, lambda _complete: writer.close())


def _open_wandb(folder: Path, run_name: str, settings: dict[str, Any]) -> ExperimentLogger:
    """Use wandb's own mode: online with a login, offline with WANDB_MODE=offline."""
    import wandb

    folder.mkdir(parents=True, exist_ok=True)  # otherwise wandb writes to /tmp
    run = wandb.init(project=os.environ.get("WANDB_PROJECT", PROJECT), name=run_name, dir=str(folder), config=settings)
    return ExperimentLogger(
        "wandb",
        lambda step, values: run.log(values, step=step),
        lambda complete: run.finish(exit_code=0 if complete else 1),
    )


def _open_mlflow(folder: Path, run_name: str, settings: dict[str, Any]) -> ExperimentLogger:
    """Use the server or database of MLFLOW_TRACKING_URI, else folder/mlflow.db."""
    import mlflow

    if "MLFLOW_TRACKING_URI" not in os.environ:
        folder.mkdir(parents=True, exist_ok=True)
        mlflow.set_tracking_uri(f"sqlite:///{(folder / 'mlflow.db').resolve()}")
    mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT))
    run = mlflow.start_run(run_name=run_name)
    mlflow.log_params(settings)
    client, sent = mlflow.MlflowClient(), time.monotonic()
    waiting: list[Any] = []  # metrics

    def send() -> None:
        nonlocal sent
        while waiting:
            client.log_batch(run.info.run_id, metrics=waiting[:MAX_METRICS])
            del waiting[:MAX_METRICS]
        sent = time.monotonic()

    def log(step: int, values: dict[str, float]) -> None:
        now = int(time.time() * 1000)
        waiting.extend(mlflow.entities.Metric(name, value, now, step) for name, value in values.items())
        if time.monotonic() - sent > SEND_SECONDS:
            send()

    def close(complete: bool) -> None:
        try:
            send()
        finally:
            mlflow.end_run("FINISHED" if complete else "KILLED")

    return ExperimentLogger("mlflow", log, close)
