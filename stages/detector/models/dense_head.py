"""The anchor-free dense head: every location of a feature map says what stands there and where its edges are."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from detector.models.state_head import States, state_head

# Distances to the four edges are read as expectations over this many bins (Li et al. 2020,
# "Generalized Focal Loss"): a location can say "about here", which little data learns sooner.
BINS = 16


def conv_block(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU; [B, inputs, H, W] -> [B, outputs, H/stride, W/stride]."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class DenseLogits(NamedTuple):
    """What L locations say: classes [B, L, C], boxes [B, L, 4 * BINS], states [B, L, S] (None without a head)."""

    classes: Tensor
    boxes: Tensor
    states: Tensor | None


class DenseHead(nn.Module):
    """Decoupled class and box branches, shared by all levels; the state is read from what found the class.

    strides: pixels per cell of each level, fine to coarse.
    """

    def __init__(self, channels: int, classes: int, strides: tuple[int, ...], states: States, depth: int = 2) -> None:
        super().__init__()
        self.strides = strides
        self.class_branch = nn.Sequential(*[conv_block(channels, channels) for _ in range(depth)])
        self.box_branch = nn.Sequential(*[conv_block(channels, channels) for _ in range(depth)])
        self.class_logits = nn.Conv2d(channels, classes, 1)
        self.box_logits = nn.Conv2d(channels, 4 * BINS, 1)
        self.states = state_head(channels, states)
        # At the start every class has probability 1%, so that the many empty locations do not drown
        # the few objects (Lin et al. 2017, "Focal Loss for Dense Object Detection").
        # And every box reaches about two cells to each side: the assignment needs boxes that overlap.
        assert self.class_logits.bias is not None
        assert self.box_logits.bias is not None
        nn.init.constant_(self.class_logits.bias, -math.log(99))
        with torch.no_grad():
            self.box_logits.bias.copy_(torch.linspace(0, -6, BINS).repeat(4))

    def forward(self, features: list[Tensor]) -> DenseLogits:
        """Features [B, C, H, W] a level -> what their L locations say."""
        seen = [self.class_branch(feature) for feature in features]
        return DenseLogits(
            flatten_levels([self.class_logits(level) for level in seen]),
            flatten_levels([self.box_logits(self.box_branch(feature)) for feature in features]),
            None if self.states is None else self.states(flatten_levels(seen)),
        )


def flatten_levels(maps: list[Tensor]) -> Tensor:
    """Maps [B, C, H, W] a level -> [B, L, C], levels one after another."""
    return torch.cat([level.flatten(2).transpose(1, 2) for level in maps], dim=1)


def locations_of(sizes: list[tuple[int, int]], strides: tuple[int, ...], device: torch.device) -> tuple[Tensor, Tensor]:
    """Centres [L, 2] (x, y) in pixels and strides [L] of all cells; `sizes` are (H, W) a level."""
    centres, stride_of = [], []
    for (height, width), stride in zip(sizes, strides, strict=True):
        rows = torch.arange(height, device=device)
        columns = torch.arange(width, device=device)
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        centres.append((torch.stack([x, y], dim=-1).reshape(-1, 2) + 0.5) * stride)
        stride_of.append(torch.full((height * width,), float(stride), device=device))
    return torch.cat(centres), torch.cat(stride_of)


def decode_boxes(box_logits: Tensor, centres: Tensor, strides: Tensor) -> Tensor:
    """Box logits [B, L, 4 * BINS] -> boxes_xyxy [B, L, 4] in pixels."""
    shares = box_logits.unflatten(-1, (4, BINS)).softmax(-1)  # [B, L, 4, BINS]
    bins = torch.arange(BINS, dtype=shares.dtype, device=shares.device)
    distances = (shares * bins).sum(-1) * strides[:, None]  # [B, L, 4] left, top, right, bottom
    return torch.cat([centres - distances[..., :2], centres + distances[..., 2:]], dim=-1)
