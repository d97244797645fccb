"""Everything that changes while training: what a run that goes on where another ended needs."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from detector.models.recipe import Recipe
from detector.training.history import History
from detector.training.optimization import AveragedWeights, Schedule, make_optimizer


class Best(NamedTuple):
    """The averaged weights of the best epoch and what they reached."""

    weights: dict[str, Tensor]
    validation: dict[str, float]


@dataclass
class Run:
    """A training on its way: `batch` batches of `epoch` (from 0) are done."""

    model: nn.Module
    optimizer: Optimizer
    schedule: Schedule
    average: AveragedWeights
    history: History
    epoch: int = 0
    batch: int = 0
    best: Best | None = None


def begin(model: nn.Module, recipe: Recipe, iterations: int, history: History) -> Run:
    """A run of `iterations` optimizer steps that has done none of them."""
    optimizer = make_optimizer(model, recipe)
    schedule = Schedule(optimizer, recipe, iterations)
    return Run(model, optimizer, schedule, AveragedWeights(model, recipe.ema_decay), history)


def state_of(run: Run, randomness: dict[str, Any]) -> dict[str, Any]:
    """The run as tensors, numbers, strings, lists, tuples and dicts; gradients are not part of it."""
    return {
        "epoch": run.epoch,
        "batch": run.batch,
        "model": run.model.state_dict(),
        "optimizer": run.optimizer.state_dict(),
        "schedule": run.schedule.state(),
        "average": run.average.state(),
        "history": run.history.state(),
        "best": None if run.best is None else tuple(run.best),
        "randomness": randomness,
    }


def restore(run: Run, state: dict[str, Any]) -> None:
    """Put a run that has just begun where `state_of` found another one, but for the random numbers."""
    run.epoch, run.batch = state["epoch"], state["batch"]
    run.model.load_state_dict(state["model"])
    run.optimizer.load_state_dict(state["optimizer"])
    run.schedule.restore(state["schedule"])
    run.average.restore(state["average"])
    run.history.replay(state["history"])
    run.best = None if state["best"] is None else Best(*state["best"])


def random_state() -> dict[str, Any]:
    """Where Python's, NumPy's and torch's generators stand."""
    name, keys, *rest = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (name, keys.tolist(), *rest),  # type: ignore[union-attr]
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random(state: dict[str, Any]) -> None:
    """Put the generators where `random_state` found them."""
    random.setstate(state["python"])
    name, keys, *rest = state["numpy"]
    np.random.set_state((name, np.array(keys, np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"]:
        torch.cuda.set_rng_state_all(state["cuda"])
