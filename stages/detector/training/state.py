"""The state of a training run: everything that a checkpoint holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.amp import GradScaler

from detector.models.recipe import Recipe
from detector.training.compute import ComputeSettings, prepare_model
from detector.training.history import History
from detector.training.loop import Learner
from detector.training.loss_weights import get_loss_weights
from detector.training.optimization import AveragedWeights, Schedule, make_optimizer


class BestEpoch(NamedTuple):
    """The averaged weights of the best epoch, its number and validation metrics (`epoch`, `loss`, `AP`, `AP50`)."""

    weights: dict[str, Tensor]
    validation: dict[str, float]


@dataclass
class TrainingRun:
    """A training in progress: `batch` batches of `epoch` (from 0) are done.

    history: only in the main process. validation: `epoch` and metrics of the last complete epoch.
    """

    learner: Learner
    schedule: Schedule
    history: History | None
    epoch: int = 0
    batch: int = 0
    best: BestEpoch | None = None
    validation: dict[str, float] = field(default_factory=dict)


def start_run(
    model: nn.Module, recipe: Recipe, iterations: int, history: History | None, compute: ComputeSettings
) -> TrainingRun:
    """Create a run of `iterations` optimizer steps, before its first one."""
    prepare_model(model, compute)
    optimizer = make_optimizer(model, recipe)
    scaler = GradScaler(compute.device.type, enabled=compute.precision == "fp16")
    average = AveragedWeights(model, recipe.ema_decay)
    learner = Learner(model, optimizer, scaler, average, compute.device, get_loss_weights(recipe))
    return TrainingRun(learner, Schedule(optimizer, recipe, iterations), history)


def capture_state(run: TrainingRun, random_states: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the run as tensors, numbers, strings, lists, tuples and dicts, without gradients.

    random_states: the result of `get_random_state` in each process.
    """
    return {
        "epoch": run.epoch,
        "batch": run.batch,
        "model": run.learner.model.state_dict(),
        "optimizer": run.learner.optimizer.state_dict(),
        "scaler": run.learner.scaler.state_dict(),
        "schedule": run.schedule.state_dict(),
        "average": run.learner.average.state_dict(),
        "history": None if run.history is None else run.history.state_dict(),
        "best": None if run.best is None else tuple(run.best),
        "validation": run.validation,
        "random_states": random_states,
    }


def restore_run(run: TrainingRun, state: dict[str, Any]) -> None:
    """Restore a new run from `capture_state`, except the random states."""
    run.epoch, run.batch = state["epoch"], state["batch"]
    run.learner.model.load_state_dict(state["model"])
    run.learner.optimizer.load_state_dict(state["optimizer"])
    run.learner.scaler.load_state_dict(state["scaler"])
    run.schedule.load_state_dict(state["schedule"])
    run.learner.average.load_state_dict(state["average"])
    if run.history is not None:
        run.history.replay(state["history"])
    run.best = None if state["best"] is None else BestEpoch(*state["best"])
    run.validation = state["validation"]
