"""The first layer of every model, uint8 pixels to normalized floats, and the frozen norm of pretrained backbones."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn


class PixelStatistics(NamedTuple):
    """Mean and standard deviation of R, G, B, as integers 0..255; images are padded with the mean."""

    mean: tuple[int, int, int]
    std: tuple[int, int, int]


# ImageNet statistics, rounded to integer pixel values.
IMAGENET_STATISTICS = PixelStatistics((124, 116, 104), (58, 57, 57))


class Normalize(nn.Module):
    """(x - mean) / std: padding with the mean becomes exactly zero."""

    mean: Tensor
    deviation: Tensor  # the standard deviation, under the name it has in trained weights

    def __init__(self, statistics: PixelStatistics) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(statistics.mean, dtype=torch.float32).view(1, 3, 1, 1))
        self.register_buffer("deviation", torch.tensor(statistics.std, dtype=torch.float32).view(1, 3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """uint8 [B, 3, H, W] -> float32 [B, 3, H, W]."""
        return (images.float() - self.mean) / self.deviation


class FrozenBatchNorm(nn.BatchNorm2d):
    """A batch norm that keeps its pretrained statistics: detection batches are too small to estimate new ones.

    Its tensors have the same names and meaning as those of nn.BatchNorm2d, so each can load the other's weights.
    """

    def __init__(self, channels: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        super().__init__(channels, eps, momentum)
        self.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> FrozenBatchNorm:
        """Stay in evaluation mode."""
        del mode
        super().train(False)
        return self


def freeze_batch_norms(module: nn.Module) -> None:
    """Replace each batch norm in `module` by a frozen one."""
    for parent in list(module.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm2d):
                frozen = FrozenBatchNorm(child.num_features, child.eps)
                frozen.load_state_dict(child.state_dict())
                setattr(parent, name, frozen)
