"""The first layer of every model: uint8 pixels -> normalized floats; and the norm of pretrained backbones."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class PixelStatistics(NamedTuple):
    """Mean and standard deviation of R, G, B, whole numbers 0..255; images are padded with the mean."""

    mean: tuple[int, ...]
    deviation: tuple[int, ...]


# What backbones pretrained on ImageNet expect, rounded to whole pixel values.
IMAGENET = PixelStatistics((124, 116, 104), (58, 57, 57))


class Normalize(nn.Module):
    """(x - mean) / deviation, so that padding with the mean becomes exactly zero."""

    mean: Tensor
    deviation: Tensor

    def __init__(self, statistics: PixelStatistics) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(statistics.mean, dtype=torch.float32).view(1, 3, 1, 1))
        self.register_buffer("deviation", torch.tensor(statistics.deviation, dtype=torch.float32).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """uint8 [B, 3, H, W] -> float32 [B, 3, H, W]."""
        return (images.float() - self.mean) / self.deviation


class FrozenBatchNorm(nn.BatchNorm2d):
    """Keeps its pretrained statistics: batches of detection are too small to estimate new ones.

    Its tensors have the names and the meaning of a usual one's, so that either can load the other's.
    """

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__(channels, eps, momentum)
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> FrozenBatchNorm:
        """Never."""
        del mode
        super().train(False)
        return self


def freeze_batch_norms(module: nn.Module) -> None:
    """Put a frozen batch norm in place of each one below `module`."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                frozen = FrozenBatchNorm(child.num_features, child.eps)
                frozen.load_state_dict(child.state_dict())
                setattr(parent, name, frozen)
