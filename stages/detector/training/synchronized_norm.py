"""Batch norms that see the whole batch when several processes share it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from detector.engine import distributed


class SynchronizedNorm(nn.BatchNorm2d):
    """A batch norm whose mean and variance are those of all processes' batches together.

    torch's SyncBatchNorm runs on CUDA only and drops the activation that timm's norms carry. Takes over the
    parameters, buffers and activation of `norm`; their names stay.
    """

    def __init__(self, norm: _BatchNorm) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum, norm.affine, norm.track_running_stats)
        self._parameters.update(norm._parameters)
        self._buffers.update(norm._buffers)
        self.activation = getattr(norm, "act", nn.Identity())

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of dimensions will do."""

    def forward(self, input: Tensor) -> Tensor:
        """[B, C, ...] -> the same shape; all processes have batches of one size."""
        if not self.training:
            result: Tensor = self.activation(super().forward(input))
            return result
        dims = [0, *range(2, input.dim())]
        variance, mean = torch.var_mean(input.float(), dims, correction=0)  # [C]
        mean, square = distributed.mean(torch.stack([mean, variance + mean.square()])).unbind()
        variance = (square - mean.square()).clamp(min=0)
        self._learn(mean.detach(), variance.detach(), input.numel() // input.shape[1] * distributed.count())
        scale = (variance + self.eps).rsqrt() if self.weight is None else (variance + self.eps).rsqrt() * self.weight
        shift = -mean * scale if self.bias is None else self.bias - mean * scale
        shape = (1, -1) + (1,) * (input.dim() - 2)
        result = torch.addcmul(shift.view(shape), input, scale.view(shape))
        return self.activation(result.to(input.dtype))

    @torch.no_grad()
    def _learn(self, mean: Tensor, variance: Tensor, values: int) -> None:
        """Move the statistics for evaluation, as torch's norms do."""
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        self.num_batches_tracked.add_(1)
        share = 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(variance * (values / max(1, values - 1)), share)


def synchronize_norms(model: nn.Module) -> None:
    """Replace the batch norms of `model` that learn statistics in training; those it keeps frozen stay."""
    model.train()
    for module in list(model.modules()):
        for name, child in module.named_children():
            if isinstance(child, _BatchNorm) and child.training:
                setattr(module, name, SynchronizedNorm(child))
