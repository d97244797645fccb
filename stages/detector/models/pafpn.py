"""The neck of the EfficientNet detectors: a feature pyramid with a top-down and a bottom-up path."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from detector.models.dense_head import conv_block


class PAFPN(nn.Module):
    """A top-down path for semantics, then a bottom-up path for localization (Liu et al. 2018, "PANet")."""

    def __init__(self, widths: tuple[int, ...], channels: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(conv_block(width, channels, kernel=1) for width in widths)
        self.down = nn.ModuleList(conv_block(channels, channels) for _ in widths[1:])
        self.shrink = nn.ModuleList(conv_block(channels, channels, stride=2) for _ in widths[1:])
        self.up = nn.ModuleList(conv_block(channels, channels) for _ in widths[1:])

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Feature maps, fine to coarse -> maps of equal width, in the same order."""
        maps = [lateral(level) for lateral, level in zip(self.lateral, maps, strict=True)]
        for index in range(len(maps) - 2, -1, -1):
            upsampled = F.interpolate(maps[index + 1], scale_factor=2.0, mode="nearest")
            maps[index] = self.down[index](maps[index] + upsampled)
        for index in range(1, len(maps)):
            maps[index] = self.up[index - 1](maps[index] + self.shrink[index - 1](maps[index - 1]))
        return maps
