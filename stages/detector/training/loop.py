"""One epoch of training."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import Optimizer

from detector.core.errors import UserError
from detector.engine import distributed
from detector.engine.dataset import Batch
from detector.training.optimization import AveragedWeights, Schedule


class Step(NamedTuple):
    """One iteration: its number, the learning rate, and the loss with its components, means over its batches."""

    iteration: int
    lr: float
    losses: dict[str, float]


class Learner(NamedTuple):
    """What learns in a step: the model and its averaged weights; scaler: for fp16, else it does nothing."""

    model: nn.Module
    optimizer: Optimizer
    scaler: GradScaler
    average: AveragedWeights
    device: torch.device


def train_one_epoch(
    learner: Learner,
    groups: Iterable[list[Batch]],
    schedule: Schedule,
    clip_norm: float,
    first_iteration: int,
    on_step: Callable[[Step], None],
    image_name: Callable[[int], str],
) -> None:
    """Forward, check, backward for each batch of a group; clip, step; `on_step` is told of each group.

    The gradient is the mean of the batches'. Raises UserError naming the component, the iteration and the
    images when a loss is not finite.
    """
    model, optimizer, scaler, average, _ = learner
    model.train()
    for iteration, group in enumerate(groups, first_iteration):
        lr = schedule.step(iteration)
        optimizer.zero_grad(set_to_none=True)
        sums: Counter[str] = Counter()
        for batch in group:
            total, losses = losses_of(learner, batch)
            check_finite(losses, iteration, map(image_name, batch.rows))
            scaler.scale(total / len(group)).backward()
            sums.update(losses)
        distributed.average_gradients(model.parameters())
        if clip_norm > 0:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        scaler.step(optimizer)
        scaler.update()
        average.update(model)
        on_step(Step(iteration, lr, {name: value / len(group) for name, value in sums.items()}))


def losses_of(learner: Learner, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """The loss to learn from, and the numbers of it and its components for the batch of all processes."""
    images = batch.images.to(learner.device, non_blocking=True)
    losses = learner.model(images, batch.targets.to(learner.device)).losses
    total = torch.stack(list(losses.values())).sum()
    values = distributed.mean(torch.stack([total, *losses.values()]).detach())
    return total, dict(zip(["batch_loss", *losses], values.tolist(), strict=True))


def grouped(batches: Iterable[Batch], accumulate: int) -> Iterator[list[Batch]]:
    """Lists of `accumulate` batches; the last may be shorter."""
    iterator = iter(batches)
    while group := list(islice(iterator, accumulate)):
        yield group


def check_finite(losses: dict[str, float], iteration: int, images: Iterable[str]) -> None:
    """Raise UserError when a loss is NaN or infinite, with the images of all processes."""
    broken = [name for name, value in losses.items() if not math.isfinite(value)]
    if broken:
        shown = ", ".join(f"{name} {value:g}" for name, value in losses.items())
        names = [name for share in distributed.gathered(list(images)) for name in share]
        raise UserError(
            f"loss is not finite at iteration {iteration}: {', '.join(broken)} (all: {shown})\n"
            f"images of the batch: {', '.join(names)}\n"
            "Look at these images and their boxes; if they are right, lower `train.lr`, lengthen "
            "`train.warmup_iterations` or lower `train.clip_norm`."
        )
