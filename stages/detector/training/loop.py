"""The loop of one training epoch."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
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

MAX_SKIPPED_STEPS = 20  # in a row; the scaler halves its scale in each, from 65,536


class Step(NamedTuple):
    """One optimizer step: its number, the learning rate, and the loss and its components, averaged over its batches."""

    iteration: int
    lr: float
    losses: dict[str, float]


class Learner(NamedTuple):
    """The model being trained, its optimizer and averaged weights.

    scaler: active only for fp16. loss_weights: by component; of others, 1.
    """

    model: nn.Module
    optimizer: Optimizer
    scaler: GradScaler
    average: AveragedWeights
    device: torch.device
    loss_weights: Mapping[str, float]


def train_one_epoch(
    learner: Learner,
    groups: Iterable[list[Batch]],
    schedule: Schedule,
    *,
    grad_clip_norm: float,
    first_iteration: int,
    on_step: Callable[[Step], None],
    image_name: Callable[[int], str],
) -> None:
    """Run one optimizer step per group of batches: forward, loss check, backward, clip, step, `on_step`.

    The gradient of a group is the mean over its batches. In fp16, a step whose loss or gradient overflows is skipped by
    the scaler, which then scales the loss less; a loss that overflows is reported. Raises UserError with the loss
    component, the iteration and the images when a loss is not finite otherwise, or in MAX_SKIPPED_STEPS steps in a row.
    """
    model, optimizer, scaler, average, _, _ = learner
    model.train()
    skipped = 0
    for iteration, group in enumerate(groups, first_iteration):
        lr = schedule.step(iteration)
        optimizer.zero_grad(set_to_none=True)
        sums: Counter[str] = Counter()
        overflowed = False
        for batch in group:
            total, losses = compute_losses(learner, batch)
            overflowed = overflowed or not all(math.isfinite(value) for value in losses.values())
            if not scaler.is_enabled() or skipped >= MAX_SKIPPED_STEPS:
                check_finite(losses, iteration, map(image_name, batch.rows))
            scaler.scale(total / len(group)).backward()
            sums.update(losses)
        distributed.average_gradients(model.parameters())
        if grad_clip_norm > 0:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), grad_clip_norm)
        scaler.step(optimizer)
        scaler.update()
        average.update(model)
        skipped = skipped + 1 if overflowed else 0
        if overflowed and distributed.is_main_process():
            print(
                f"iteration {iteration}: the loss overflowed in fp16, step skipped; loss scale {scaler.get_scale():g}"
            )
        on_step(Step(iteration, lr, {name: value / len(group) for name, value in sums.items()}))


def compute_losses(learner: Learner, batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """Return the total loss of this process, and the values of it and its components averaged over all processes."""
    images = batch.images.to(learner.device, non_blocking=True)
    losses = learner.model(images, batch.targets.to(learner.device)).losses
    losses = {name: loss * learner.loss_weights.get(name, 1.0) for name, loss in losses.items()}
    total = torch.stack(list(losses.values())).sum()
    values = distributed.all_reduce_mean(torch.stack([total, *losses.values()]).detach())
    return total, dict(zip(["loss", *losses], values.tolist(), strict=True))


def group_batches(batches: Iterable[Batch], accumulate_steps: int) -> Iterator[list[Batch]]:
    """Yield lists of `accumulate_steps` batches; the last may be shorter."""
    iterator = iter(batches)
    while group := list(islice(iterator, accumulate_steps)):
        yield group


def check_finite(losses: dict[str, float], iteration: int, images: Iterable[str]) -> None:
    """Raise UserError when a loss is NaN or infinite; the message names the images of all processes."""
    not_finite = [name for name, value in losses.items() if not math.isfinite(value)]
    if not_finite:
        values = ", ".join(f"{name} {value:g}" for name, value in losses.items())
        names = [name for part in distributed.all_gather_object(list(images)) for name in part]
        raise UserError(
            f"loss is not finite at iteration {iteration}: {', '.join(not_finite)} (all: {values})\n"
            f"images of the batch: {', '.join(names)}\n"
            "Check these images and their boxes; if they are correct, lower `train.lr`, raise "
            "`train.warmup_iterations` or lower `train.grad_clip_norm`."
        )
