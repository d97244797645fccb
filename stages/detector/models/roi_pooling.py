"""Batched RoIAlign (He et al. 2017, "Mask R-CNN"), from one feature map or from the pyramid level for each box."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchvision.ops import roi_align

POOL_SIZE = 7
SAMPLING_RATIO = 2  # sampling points per side of each of the POOL_SIZE x POOL_SIZE bins


def pool_boxes(maps: list[Tensor], strides: tuple[int, ...], boxes_xyxy: Tensor) -> Tensor:
    """Boxes [B, R, 4] in pixels, maps [B, C, H, W] fine to coarse -> [B * R, C, POOL_SIZE, POOL_SIZE]."""
    if len(maps) == 1:
        return pool_by_matmul(maps[0], strides[0], boxes_xyxy)
    return pool_by_levels(maps, strides, boxes_xyxy)


def pool_by_matmul(level: Tensor, stride: int, boxes_xyxy: Tensor) -> Tensor:
    """RoIAlign as two matrix products, one per axis, because its weights are separable.

    On a feature map of a few hundred cells this is several times as fast as gathering points, especially backward.
    """
    down = compute_bin_weights(boxes_xyxy[..., 1], boxes_xyxy[..., 3], level.shape[2], stride)  # [B, R, POOL_SIZE, H]
    across = compute_bin_weights(boxes_xyxy[..., 0], boxes_xyxy[..., 2], level.shape[3], stride)  # [B, R, POOL_SIZE, W]
    rows = level.permute(0, 2, 3, 1).flatten(2)  # [B, H, W * C]
    rows = (down.flatten(1, 2) @ rows).unflatten(1, (-1, POOL_SIZE)).unflatten(3, (level.shape[3], -1))
    pooled: Tensor = across[:, :, None] @ rows  # [B, R, POOL_SIZE, POOL_SIZE, C]
    return pooled.permute(0, 1, 4, 2, 3).flatten(0, 1)


def compute_bin_weights(low: Tensor, high: Tensor, cells: int, stride: int) -> Tensor:
    """The weight of each of `cells` in each bin of the intervals [B, R] in pixels: [B, R, POOL_SIZE, cells].

    A bin is the mean over linearly interpolated points; points more than one cell outside count as zero.
    """
    size = ((high - low) / stride).clamp(min=1) / (POOL_SIZE * SAMPLING_RATIO)
    index = torch.arange(POOL_SIZE * SAMPLING_RATIO, device=low.device) + 0.5
    points = (low / stride)[..., None] + size[..., None] * index  # [B, R, POOL_SIZE * SAMPLING_RATIO]
    inside = (points >= -1) & (points <= cells)
    positions = torch.arange(cells, device=low.device)
    weights = (1 - (points.clamp(0, cells - 1)[..., None] - positions).abs()).clamp(min=0) * inside[..., None]
    bin_weights: Tensor = weights.unflatten(2, (POOL_SIZE, SAMPLING_RATIO)).mean(3)
    return bin_weights


def pool_by_levels(maps: list[Tensor], strides: tuple[int, ...], boxes_xyxy: Tensor) -> Tensor:
    """torchvision's RoIAlign of each box on the pyramid level for its size.

    During export all boxes are pooled from every level and the right values selected, because shapes must not depend
    on the data; otherwise each level pools only its own boxes. The results are the same.
    """
    batch, count, _ = boxes_xyxy.shape
    image = torch.arange(batch, device=boxes_xyxy.device, dtype=boxes_xyxy.dtype)
    image = image[:, None, None].expand(-1, count, 1)
    rois = torch.cat([image, boxes_xyxy], dim=2).flatten(0, 1)  # [B * R, 5]
    side = (rois[:, 3:] - rois[:, 1:3]).clamp(min=0).prod(dim=1).sqrt()
    # Lin et al. 2017, equation 1: a box of 224 pixels is pooled from the level of stride 2^4.
    finest, coarsest = (int(math.log2(stride)) for stride in (strides[0], strides[-1]))
    level_index = torch.floor(4 + torch.log2(side / 224 + 1e-6)).clamp(min=finest, max=coarsest) - finest
    result = maps[0].new_zeros(rois.shape[0], maps[0].shape[1], POOL_SIZE, POOL_SIZE)
    for number, (level, stride) in enumerate(zip(maps, strides, strict=True)):
        if torch.compiler.is_exporting():
            values = roi_align(level, rois, POOL_SIZE, spatial_scale=1 / stride, sampling_ratio=SAMPLING_RATIO)
            result = torch.where((level_index == number)[:, None, None, None], values, result)
        else:
            own = (level_index == number).nonzero()[:, 0]
            values = roi_align(level, rois[own], POOL_SIZE, spatial_scale=1 / stride, sampling_ratio=SAMPLING_RATIO)
            result = result.index_copy(0, own, values)
    return result
