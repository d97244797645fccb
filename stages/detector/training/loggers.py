"""Copies of the log where people compare runs: TensorBoard, Weights & Biases, MLflow.

None is needed: a package is imported only when params.yaml names it, and one that fails while training is
left out from then on. Every process is a run of its own; one that goes on where another ended logs the
epochs before again (see `History.replay`), so that each curve is whole and has no point twice.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from detector.core.errors import UserError

PROJECT = "detector"
# What `pip install` needs; mlflow-skinny alone can only write to a server.
PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow-skinny sqlalchemy alembic"}


class Mirror(NamedTuple):
    """log(step, values) takes what DVCLive gets, one step an epoch, from 0; close(complete) ends the run."""

    name: str
    log: Callable[[int, dict[str, float]], None]
    close: Callable[[bool], None]


@contextmanager
def opened(names: Sequence[str], folder: Path, run: str, settings: dict[str, Any]) -> Iterator[list[Mirror]]:
    """The mirrors of these names; `run` is what they call this training, `settings` is shown beside its curves.

    folder: where those write that have not been told otherwise by their own environment variables. Raises
    UserError when one cannot start.
    """
    openers = {"tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow}
    mirrors: list[Mirror] = []
    complete = False
    try:
        for name in names:
            try:
                mirrors.append(openers[name](folder, run, settings))
            except Exception as error:  # each raises errors of its own
                raise UserError(
                    f"params.yaml: `train.mirrors` names {name}, which cannot start ({error}); take it out, or see "
                    f"that it can: `pip install {PACKAGES[name]}` installs it"
                ) from error
        yield mirrors
        complete = True
    finally:
        for mirror in mirrors:
            try:
                mirror.close(complete)
            except Exception as error:  # nothing that the training made depends on it
                print(f"warning: {mirror.name} did not end as it should ({error})", flush=True)


def _tensorboard(folder: Path, run: str, settings: dict[str, Any]) -> Mirror:
    """Event files in folder/tensorboard/run; `tensorboard --logdir` shows them."""
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(folder / "tensorboard" / run))
    writer.add_text("settings", "\n".join(f"    {name}: {value}" for name, value in settings.items()))

    def log(step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    return Mirror("tensorboard", log, lambda _complete: writer.close())


def _wandb(folder: Path, run: str, settings: dict[str, Any]) -> Mirror:
    """In wandb's own mode: online where there is a login, offline with WANDB_MODE=offline."""
    import wandb

    folder.mkdir(parents=True, exist_ok=True)  # or wandb would write to /tmp
    opened_run = wandb.init(
        project=os.environ.get("WANDB_PROJECT", PROJECT), name=run, dir=str(folder), config=settings
    )
    return Mirror(
        "wandb",
        lambda step, values: opened_run.log(values, step=step),
        lambda complete: opened_run.finish(exit_code=0 if complete else 1),
    )


def _mlflow(folder: Path, run: str, settings: dict[str, Any]) -> Mirror:
    """On the server, or in the database, of MLFLOW_TRACKING_URI, else in folder/mlflow.db."""
    import mlflow

    if "MLFLOW_TRACKING_URI" not in os.environ:
        folder.mkdir(parents=True, exist_ok=True)
        mlflow.set_tracking_uri(f"sqlite:///{(folder / 'mlflow.db').resolve()}")
    mlflow.set_experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT))
    mlflow.start_run(run_name=run)
    mlflow.log_params(settings)

    def log(step: int, values: dict[str, float]) -> None:
        mlflow.log_metrics(values, step=step)

    return Mirror("mlflow", log, lambda complete: mlflow.end_run("FINISHED" if complete else "KILLED"))
