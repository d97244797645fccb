"""Batch norm over the whole batch when several processes share it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from detector.engine import distributed


class SynchronizedBatchNorm(nn.BatchNorm2d):
    """A batch norm with the mean and variance of the batches of all processes.

    torch's SyncBatchNorm runs only on CUDA and drops the activation of timm's norms. Takes over the parameters,
    buffers and activation of `norm` under the same names.
    """

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        self._parameters.update(norm._parameters)
        self._buffers.update(norm._buffers)
        self.activation = getattr(norm, "act", nn.Identity())

    def _check_input_dim(self, input: Tensor) -> None:
        """Accept any number of dimensions."""

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, ...] -> the same shape; all processes must have the same batch size."""
        if not self.training:
            result: Tensor = self.activation(super().forward(input))
            return result
        dims = [0, *range(2, input.dim())]
        values = input.float()
        mean = distributed.all_reduce_mean(values.mean(dims))  # [C]
        # Not the mean square minus the squared mean, which loses the digits that a large mean has in common.
        shape = (1, -1) + (1,) * (input.dim() - 2)
        centered = values - mean.view(shape)
        variance = distributed.all_reduce_mean(centered.square().mean(dims))
        self._update_statistics(
            mean.detach(), variance.detach(), input.numel() // input.shape[1] * distributed.world_size()
        )
        scale = (variance + self.eps).rsqrt() if self.weight is None else (variance + self.eps).rsqrt() * self.weight
        normalized = centered * scale.view(shape)
        if self.bias is not None:
            normalized = normalized + self.bias.view(shape)
        output: Tensor = self.activation(normalized.to(input.dtype))
        return output

    @torch.no_grad()
    def _update_statistics(self, mean: Tensor, variance: Tensor, values: int) -> None:
        """Update the running statistics, as torch's norms do."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        momentum = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance * (values / max(1, values - 1)), momentum)


def synchronize_norms(model: nn.Module) -> None:
    """Replace the batch norms of `model` that use batch statistics in training, in place; frozen ones stay."""
    model.train()
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, _BatchNorm) and child.training:
                setattr(module, name, SynchronizedBatchNorm(child))
