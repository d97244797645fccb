"""One epoch of training."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import nn
from torch.optim import Optimizer

from detector.data.dataset import Batch
from detector.errors import UserError
from detector.training.optimization import AveragedWeights, Schedule


class Step(NamedTuple):
    """What one iteration did: its number, the learning rate, and the loss with its components."""

    iteration: int
    lr: float
    losses: dict[str, float]


def train_one_epoch(
    model: nn.Module,
    batches: Iterable[Batch],
    optimizer: Optimizer,
    schedule: Schedule,
    average: AveragedWeights,
    clip_norm: float,
    first_iteration: int,
    device: torch.device,
    on_step: Callable[[Step], None],
    image_name: Callable[[int], str],
) -> None:
    """Forward, check, backward, clip, step; `on_step` is told of each.

    Raises UserError naming the component, the iteration and the images when a loss is not finite.
    """
    model.train()
    for iteration, batch in enumerate(batches, first_iteration):
        lr = schedule.step(iteration)
        losses = model(batch.images.to(device, non_blocking=True), batch.targets.to(device)).losses
        total = torch.stack(list(losses.values())).sum()
        values = {"batch_loss": float(total.detach())} | {name: float(loss.detach()) for name, loss in losses.items()}
        check_finite(values, iteration, [image_name(row) for row in batch.rows])
        optimizer.zero_grad(set_to_none=True)
        total.backward()
        if clip_norm > 0:
            nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
        optimizer.step()
        average.update(model)
        on_step(Step(iteration, lr, values))


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
