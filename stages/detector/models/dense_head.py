"""The anchor-free dense head: every location of a feature map predicts a class, four edge distances and a state."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from detector.models.state_head import StateConfig, build_state_head

# Distances to the four edges are expectations over this many bins (Li et al. 2020, "Generalized Focal Loss"):
# distributions express uncertainty, which is easier to learn from little data.
BINS = 16

# Initially, of a location: all classes together. With a fixed probability per class, the background would dominate the
# first steps more the more classes there are, and Adam's second moments would remember that (Lin et al. 2017, "Focal
# Loss for Dense Object Detection", start with 1% per class of COCO).
OBJECT_PROBABILITY = 0.001


def conv_block(inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU; [B, inputs, H, W] -> [B, outputs, H/stride, W/stride]."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class DenseOutputs(NamedTuple):
    """Logits of L locations: classes [B, L, C], boxes [B, L, 4 * BINS], states [B, L, S].

    states: None without a state head and in training, where the loss computes them from class_features [B, K, H, W]
    per level, those of the class branch; empty without a state head.
    """

    classes: Tensor
    boxes: Tensor
    states: Tensor | None
    class_features: list[Tensor]


class DenseHead(nn.Module):
    """Decoupled class and box branches, shared by all levels; the state uses the features of the class branch.

    strides: pixels per cell of each level, fine to coarse.
    """

    def __init__(self, channels: int, classes: int, strides: tuple[int, ...], states: StateConfig) -> None:
        super().__init__()
        self.strides = strides
        self.class_branch = conv_block(channels, channels)
        self.box_branch = conv_block(channels, channels)
        self.class_logits = nn.Conv2d(channels, classes, 1)
        self.box_logits = nn.Conv2d(channels, 4 * BINS, 1)
        self.states = build_state_head(channels, states)
        # Initial boxes extend about two cells to each side, because the assignment needs boxes that overlap.
        assert self.class_logits.bias is not None
        assert self.box_logits.bias is not None
        nn.init.constant_(self.class_logits.bias, -math.log(classes / OBJECT_PROBABILITY - 1))
        with torch.no_grad():
            self.box_logits.bias.copy_(torch.linspace(0, -6, BINS).repeat(4))

    def forward(self, features: list[Tensor]) -> DenseOutputs:
        """Feature maps [B, C, H, W] per level -> what their L locations predict."""
        class_features = [self.class_branch(feature) for feature in features]
        states = None
        if self.states is not None and not self.training:
            states = flatten_levels([self.states.convolve(level) for level in class_features])
        return DenseOutputs(
            flatten_levels([self.class_logits(level) for level in class_features]),
            flatten_levels([self.box_logits(self.box_branch(feature)) for feature in features]),
            states,
            class_features if self.states is not None else [],
        )


def flatten_levels(maps: list[Tensor]) -> Tensor:
    """Feature maps [B, C, H, W] per level -> [B, L, C], level after level."""
    return torch.cat([level.flatten(2).transpose(1, 2) for level in maps], dim=1)


def make_locations(
    sizes: list[tuple[int, int]], strides: tuple[int, ...], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Centers [L, 2] (x, y) in pixels and strides [L] of all cells; sizes: (H, W) per level."""
    centers, cell_strides = [], []
    for (height, width), stride in zip(sizes, strides, strict=True):
        rows = torch.arange(height, device=device)
        columns = torch.arange(width, device=device)
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        centers.append((torch.stack([x, y], dim=-1).reshape(-1, 2) + 0.5) * stride)
        cell_strides.append(torch.full((height * width,), float(stride), device=device))
    return torch.cat(centers), torch.cat(cell_strides)


def decode_box_logits(box_logits: Tensor, centers: Tensor, strides: Tensor) -> Tensor:
    """Box logits [B, L, 4 * BINS] -> boxes_xyxy [B, L, 4] in pixels."""
    probabilities = box_logits.unflatten(-1, (4, BINS)).softmax(-1)  # [B, L, 4, BINS]
    bins = torch.arange(BINS, dtype=probabilities.dtype, device=probabilities.device)
    return decode_distances((probabilities * bins).sum(-1), centers, strides)


def decode_distances(distances: Tensor, centers: Tensor, strides: Tensor) -> Tensor:
    """Distances [..., L, 4] in strides (left, top, right, bottom) -> boxes_xyxy [..., L, 4] in pixels."""
    pixels = distances * strides[:, None]
    return torch.cat([centers - pixels[..., :2], centers + pixels[..., 2:]], dim=-1)
