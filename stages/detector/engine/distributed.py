"""What processes that train together tell each other; a process that trains alone is the first of one.

All of these are called by every process at the same place, or all would wait for the one that does not come.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

Value = TypeVar("Value")


def count() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """The number of this process, from 0."""
    return dist.get_rank() if count() > 1 else 0


def is_first() -> bool:
    """Whether this is the process that writes and prints."""
    return rank() == 0


def loss_normalizer(total: Tensor) -> Tensor:
    """What a batch divides the sum of its losses by, from its own `total` (scalar): at least 1.

    When several processes share a batch, the mean of their totals, at least 1 in all: gradients are averaged
    over the processes, and the average of sum_i / mean(totals) is what one process makes of the whole batch.
    Without gradients, as in validation, no batch is shared.
    """
    if count() == 1 or not torch.is_grad_enabled():
        return total.clamp(min=1)
    shared = total.detach().to(torch.float32, copy=True)
    dist.all_reduce(shared)
    return shared.clamp(min=1) / count()


def mean(values: Tensor) -> Tensor:
    """The mean over all processes; its gradient is the mean of all processes' gradients."""
    result: Tensor = values if count() == 1 else _Mean.apply(values)
    return result


class _Mean(torch.autograd.Function):
    """torch's own differentiable all_reduce is deprecated, and what should replace it is private."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        shared = values.detach().clone(memory_format=torch.contiguous_format)
        dist.all_reduce(shared)
        return shared / count()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _Mean.forward(ctx, gradient)


def equalize(tensors: Iterable[Tensor]) -> None:
    """Copy those of the first process to all others."""
    if count() > 1:
        for tensor in tensors:
            dist.broadcast(tensor, 0)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over all processes; a process without one adds zero.

    In one piece after the whole backward pass. DistributedDataParallel would send parts during it, but orders
    them anew after its first step, and with three or more processes the order decides the last bits: a training
    that went on where another ended would come out different. Its way of not doing that searches the graph for
    unused parameters in every step, and warns when there are none.
    """
    if count() == 1:
        return
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    used = anywhere(*(parameter.grad is not None for parameter in learning))
    learning = [parameter for parameter, has in zip(learning, used, strict=True) if has]
    gradients = [torch.zeros_like(one) if one.grad is None else one.grad for one in learning]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    parts = (flat / count()).split([gradient.numel() for gradient in gradients])
    for parameter, gradient, part in zip(learning, gradients, parts, strict=True):
        parameter.grad = gradient.copy_(part.view_as(gradient))


def anywhere(*flags: bool) -> list[bool]:
    """For each flag, whether it is set in any process."""
    if count() == 1:
        return list(flags)
    shared = torch.tensor(flags, dtype=torch.uint8)  # on the CPU: nothing waits for a GPU
    dist.all_reduce(shared, dist.ReduceOp.MAX)
    return [bool(flag) for flag in shared.tolist()]


def gathered(value: Value) -> list[Value]:
    """The values of all processes in their order, everywhere."""
    if count() == 1:
        return [value]
    values: list[Any] = [None] * count()
    dist.all_gather_object(values, value)
    return values


def from_first(value: Value) -> Value:
    """The value of the first process."""
    if count() == 1:
        return value
    values = [value]
    dist.broadcast_object_list(values)
    return values[0]
