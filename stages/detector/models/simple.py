"""`simple`: a small anchor-free convolutional detector, trained from scratch in minutes on a CPU."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from detector.models.dense_detector import DenseDetector
from detector.models.dense_head import DenseHead, conv_block
from detector.models.normalization import Normalize, PixelStatistics
from detector.models.postprocess import Postprocess
from detector.models.recipe import DENSE
from detector.models.state_head import StateConfig

RECIPE = DENSE

STEM = (16, 32)  # channels at strides 2 and 4
WIDTHS = (48, 96, 192)  # channels at STRIDES
STRIDES = (8, 16, 32)
NECK = 48  # channels of the neck and the head


class Residual(nn.Module):
    """x + two 3x3 convolutions; [B, C, H, W] -> [B, C, H, W]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = nn.Sequential(conv_block(channels, channels), conv_block(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Apply the block and add its input."""
        result: Tensor = x + self.block(x)
        return result


class SimpleBackbone(nn.Module):
    """A stem to stride 4 and three stages: [B, 3, H, W] -> maps [B, WIDTHS[i], H/s, W/s] for s in STRIDES."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(conv_block(3, STEM[0], stride=2), conv_block(*STEM, stride=2))
        inputs = (STEM[-1], *WIDTHS[:-1])
        self.stages = nn.ModuleList(
            nn.Sequential(conv_block(before, after, stride=2), Residual(after), Residual(after))
            for before, after in zip(inputs, WIDTHS, strict=True)
        )

    def forward(self, x: Tensor) -> list[Tensor]:
        """Normalized images -> feature maps at STRIDES, fine to coarse."""
        x = self.stem(x)
        maps = []
        for stage in self.stages:
            x = stage(x)
            maps.append(x)
        return maps


class FeaturePyramid(nn.Module):
    """A top-down feature pyramid (Lin et al. 2017); all output maps have `channels`."""

    def __init__(self, widths: tuple[int, ...], channels: int) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(conv_block(width, channels, kernel=1) for width in widths)
        self.smooth = nn.ModuleList(conv_block(channels, channels) for _ in widths)

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Feature maps, fine to coarse -> maps of equal width, in the same order."""
        maps = [lateral(level) for lateral, level in zip(self.lateral, maps, strict=True)]
        for index in range(len(maps) - 2, -1, -1):
            maps[index] = maps[index] + F.interpolate(maps[index + 1], scale_factor=2.0, mode="nearest")
        return [smooth(level) for smooth, level in zip(self.smooth, maps, strict=True)]


def build_simple(
    classes: int, states: StateConfig, statistics: PixelStatistics, postprocess: Postprocess, weights: str
) -> DenseDetector:
    """Build the model with random weights; weights: only none."""
    del weights  # the caller checks them against MODELS
    head = DenseHead(NECK, classes, STRIDES, states)
    return DenseDetector(Normalize(statistics), SimpleBackbone(), FeaturePyramid(WIDTHS, NECK), head, postprocess)
