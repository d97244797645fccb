"""One epoch of training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import torch
from torch import nn
from torch.optim import Optimizer

from detector.data.dataset import Batch
from detector.errors import UserError
from detector.training.optimization import AveragedWeights, Schedule


class Step(NamedTuple):
    """One iteration: its number, the learning rate, and the loss with its components, means over its batches."""

    iteration: int
    lr: float
    losses: dict[str, float]


def train_one_epoch(
    model: nn.Module,
    groups: Iterable[list[Batch]],
    optimizer: Optimizer,
    schedule: Schedule,
    average: AveragedWeights,
    clip_norm: float,
    first_iteration: int,
    device: torch.device,
    on_step: Callable[[Step], None],
    image_name: Callable[[int], str],
) -> None:
    """Forward, check, backward for each batch of a group; clip, step; `on_step` is told of each group.

    The gradient is the mean of the batches'. Raises UserError naming the component, the iteration and the
    images when a loss is not finite.
    """
    model.train()
    for iteration, group in enumerate(groups, first_iteration):
        lr = schedule.step(iteration)
        optimizer.zero_grad(set_to_none=True)
        sums: Counter[str] = Counter()
        for batch in group:
            losses = model(batch.images.to(device, non_blocking=True), batch.targets.to(device)).losses
            total = torch.stack(list(losses.values())).sum()
            values = {"batch_loss": total} | losses
            numbers = {name: float(value.detach()) for name, value in values.items()}
            check_finite(numbers, iteration, [image_name(row) for row in batch.rows])
            (total / len(group)).backward()
            sums.update(numbers)
        if clip_norm > 0:
            nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        optimizer.step()
        average.update(model)
        on_step(Step(iteration, lr, {name: value / len(group) for name, value in sums.items()}))


def grouped(batches: Iterable[Batch], accumulate: int) -> Iterator[list[Batch]]:
    """Lists of `accumulate` batches; the last may be shorter."""
    iterator = iter(batches)
    while group := list(islice(iterator, accumulate)):
        yield group


def check_finite(losses: dict[str, float], iteration: int, images: list[str]) -> None:
    """Raise UserError when a loss is NaN or infinite."""
    broken = [name for name, value in losses.items() if not torch.isfinite(torch.tensor(value))]
    if broken:
        shown = ", ".join(f"{name} {value:g}" for name, value in losses.items())
        raise UserError(
            f"loss is not finite at iteration {iteration}: {', '.join(broken)} (all: {shown})\n"
            f"images of the batch: {', '.join(images)}\n"
            "Look at these images and their boxes; if they are right, lower `train.lr`, lengthen "
            "`train.warmup_iterations` or lower `train.clip_norm`."
        )
