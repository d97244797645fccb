"""Communication between training processes; a single process has rank 0 and world size 1.

These are collective operations: every process must call them at the same point, or the others block.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

Value = TypeVar("Value")


def world_size() -> int:
    """The number of training processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def local_world_size() -> int:
    """The number of training processes on this machine, as torchrun and `spawn_workers` say."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def rank() -> int:
    """The rank of this process, from 0."""
    return dist.get_rank() if world_size() > 1 else 0


def is_main_process() -> bool:
    """Whether this process (rank 0) writes files and prints."""
    return rank() == 0


def loss_normalizer(total: Tensor) -> Tensor:
    """The divisor for a batch's summed losses, from its own `total` (scalar); at least 1.

    With several processes it is the mean of their totals, where the totals add up to at least 1: gradients are
    averaged over the processes, and the average of sum_i / mean(totals) equals the gradient of the whole batch
    in one process. Without gradients, as in validation, each process divides by its own total.
    """
    if world_size() == 1 or not torch.is_grad_enabled():
        return total.clamp(min=1)
    shared = total.detach().to(torch.float32, copy=True)
    dist.all_reduce(shared)
    return shared.clamp(min=1) / world_size()


def all_reduce_mean(values: Tensor) -> Tensor:
    """The mean over all processes; its gradient is the mean of their gradients."""
    result: Tensor = values if world_size() == 1 else _Mean.apply(values)
    return result


class _Mean(torch.autograd.Function):
    """torch's own differentiable all_reduce is deprecated and its replacement is private."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        shared = values.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(shared)
        return shared / world_size()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _Mean.forward(ctx, gradient)


def broadcast_parameters(tensors: Iterable[Tensor]) -> None:
    """Copy the tensors of rank 0 to all other processes."""
    if world_size() > 1:
        for tensor in tensors:
            dist.broadcast(tensor, 0)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over all processes; a process without a gradient contributes zero.

    All gradients are reduced together after the backward pass. DistributedDataParallel reduces buckets during it,
    but reorders them after the first step, and with three or more processes the order changes the last bits: a
    resumed training would not be bit-identical. Its option against that searches the graph for unused parameters
    in every step and warns when there are none.
    """
    if world_size() == 1:
        return
    trainable = [parameter for parameter in parameters if parameter.requires_grad]
    used = any_rank(*(parameter.grad is not None for parameter in trainable))
    trainable = [parameter for parameter, has_gradient in zip(trainable, used, strict=True) if has_gradient]
    gradients = [torch.zeros_like(one) if one.grad is None else one.grad for one in trainable]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    parts = (flat / world_size()).split([gradient.numel() for gradient in gradients])
    for parameter, gradient, part in zip(trainable, gradients, parts, strict=True):
        parameter.grad = gradient.copy_(part.view_as(gradient))


def any_rank(*flags: bool) -> list[bool]:
    """For each flag, whether any process sets it."""
    if world_size() == 1:
        return list(flags)
    shared = torch.tensor(flags, dtype=torch.uint8)  # on the CPU, so that no GPU has to synchronize
    dist.all_reduce(shared, dist.ReduceOp.MAX)
    return [bool(flag) for flag in shared.tolist()]


def all_gather_object(value: Value) -> list[Value]:
    """The values of all processes in rank order, in every process."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    dist.all_gather_object(values, value)
    return values


def broadcast_object(value: Value) -> Value:
    """The value of rank 0."""
    if world_size() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]
