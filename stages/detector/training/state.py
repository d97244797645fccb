"""Everything that changes while training: what a run that goes on where another ended needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor, nn
from torch.amp import GradScaler

from detector.models.recipe import Recipe
from detector.training.compute import Engine, prepare
from detector.training.history import History
from detector.training.loop import Learner
from detector.training.optimization import AveragedWeights, Schedule, make_optimizer


class Best(NamedTuple):
    """The averaged weights of the best epoch and what they reached."""

    weights: dict[str, Tensor]
    validation: dict[str, float]


@dataclass
class Run:
    """A training on its way: `batch` batches of `epoch` (from 0) are done.

    history: of the first process; the others write nothing down.
    """

    learner: Learner
    schedule: Schedule
    history: History | None
    epoch: int = 0
    batch: int = 0
    best: Best | None = None


def begin(model: nn.Module, recipe: Recipe, iterations: int, history: History | None, engine: Engine) -> Run:
    """A run of `iterations` optimizer steps that has done none of them."""
    prepare(model, engine)
    optimizer = make_optimizer(model, recipe)
    scaler = GradScaler(engine.device.type, enabled=engine.precision == "fp16")
    average = AveragedWeights(model, recipe.ema_decay)
    learner = Learner(model, optimizer, scaler, average, engine.device)
    return Run(learner, Schedule(optimizer, recipe, iterations), history)


def state_of(run: Run, randomness: list[dict[str, Any]]) -> dict[str, Any]:
    """The run as tensors, numbers, strings, lists, tuples and dicts; gradients are not part of it.

    randomness: the `random_state` of each process.
    """
    return {
        "epoch": run.epoch,
        "batch": run.batch,
        "model": run.learner.model.state_dict(),
        "optimizer": run.learner.optimizer.state_dict(),
        "scaler": run.learner.scaler.state_dict(),
        "schedule": run.schedule.state(),
        "average": run.learner.average.state(),
        "history": None if run.history is None else run.history.state(),
        "best": None if run.best is None else tuple(run.best),
        "randomness": randomness,
    }


def restore(run: Run, state: dict[str, Any]) -> None:
    """Put a run that has just begun where `state_of` found another one, but for the random numbers."""
    run.epoch, run.batch = state["epoch"], state["batch"]
    run.learner.model.load_state_dict(state["model"])
    run.learner.optimizer.load_state_dict(state["optimizer"])
    run.learner.scaler.load_state_dict(state["scaler"])
    run.schedule.restore(state["schedule"])
    run.learner.average.restore(state["average"])
    if run.history is not None:
        run.history.replay(state["history"])
    run.best = None if state["best"] is None else Best(*state["best"])
