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

# Overflows end an fp16 training when the scaler, which starts at 65,536 and halves its scale each time, has come to
# this: after 20 steps in a row. It is part of the checkpoints, so a resumed training ends in the same step.
MIN_LOSS_SCALE = 2.0**-4


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

    The gradient of a group is the mean over its batches. In fp16, a step whose loss or gradient overflows is skipped
    and reported, and the scaler scales the next loss less: the model's statistics and the averaged weights stay as
    they were, the learning rate goes on with its schedule. Raises UserError with the loss component, the iteration and
    the images when a loss is not finite otherwise, or when the scale has fallen to MIN_LOSS_SCALE.
    """
    model, optimizer, scaler, average, _, _ = learner
    model.train()
    scale = scaler.get_scale()  # 1 unless in fp16
    for iteration, group in enumerate(groups, first_iteration):
        lr = schedule.step(iteration)
        optimizer.zero_grad(set_to_none=True)
        statistics = copy_statistics(model) if scaler.is_enabled() else []
        sums: Counter[str] = Counter()
        for batch in group:
            total, losses = compute_losses(learner, batch)
            if not scaler.is_enabled() or scale <= MIN_LOSS_SCALE:
                check_finite(losses, iteration, map(image_name, batch.rows))
            scaler.scale(total / len(group)).backward()
            sums.update(losses)
        distributed.average_gradients(model.parameters())
        if grad_clip_norm > 0:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), grad_clip_norm)
        scaler.step(optimizer)
        scaler.update()
        before, scale = scale, scaler.get_scale()
        names = (image_name(row) for batch in group for row in batch.rows)
        if scale < before:
            restore_statistics(model, statistics)
            report_skipped_step(iteration, sums, before, names)
        else:
            check_finite(sums, iteration, names)  # in fp16, of a loss that is not finite although its gradients are
            average.update(model)
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


def copy_statistics(model: nn.Module) -> list[Tensor]:
    """Copy the buffers that a forward pass may change, such as the running means of batch norms."""
    return [buffer.clone() for buffer in model.buffers()]


@torch.no_grad()
def restore_statistics(model: nn.Module, statistics: list[Tensor]) -> None:
    """Restore what `copy_statistics` returned: activations that overflowed make running means infinite for good."""
    for buffer, saved in zip(model.buffers(), statistics, strict=True):
        buffer.copy_(saved)


def report_skipped_step(iteration: int, losses: Mapping[str, float], scale: float, images: Iterable[str]) -> None:
    """Print that the scaler has skipped a step whose loss was multiplied by `scale`; the same in all processes.

    Raises UserError when the gradients overflow although the scale is small.
    """
    what = "gradients" if all(math.isfinite(value) for value in losses.values()) else "loss"
    if what == "gradients" and scale <= MIN_LOSS_SCALE:
        raise UserError(
            f"gradients are not finite at iteration {iteration} in fp16, with the loss scaled by only {scale:g}\n"
            f"images of the batch: {', '.join(gather_names(images))}\n"
            "Set `train.precision: fp32`, or bf16 where the GPU supports it; or lower `train.lr` or raise "
            "`train.warmup_iterations`."
        )
    if distributed.is_main_process():
        print(f"iteration {iteration}: {what} overflowed in fp16 with loss scale {scale:g}, step skipped", flush=True)


def check_finite(losses: Mapping[str, float], iteration: int, images: Iterable[str]) -> None:
    """Raise UserError when a loss is NaN or infinite; the message names the images of all processes."""
    not_finite = [name for name, value in losses.items() if not math.isfinite(value)]
    if not_finite:
        values = ", ".join(f"{name} {value:g}" for name, value in losses.items())
        raise UserError(
            f"loss is not finite at iteration {iteration}: {', '.join(not_finite)} (all: {values})\n"
            f"images of the batch: {', '.join(gather_names(images))}\n"
            "Check these images and their boxes; if they are correct, lower `train.lr`, raise "
            "`train.warmup_iterations` or lower `train.grad_clip_norm`."
        )


def gather_names(images: Iterable[str]) -> list[str]:
    """The names of all processes."""
    return [name for part in distributed.all_gather_object(list(images)) for name in part]
