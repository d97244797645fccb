"""RoIAlign (He et al. 2017, "Mask R-CNN") of a batch of boxes, on one map or on that of a pyramid that suits each."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchvision.ops import roi_align

POOLED = 7
SAMPLES = 2  # points a side of each of the POOLED x POOLED bins


def pool(maps: list[Tensor], strides: tuple[int, ...], boxes_xyxy: Tensor) -> Tensor:
    """Boxes [B, R, 4] in pixels, maps [B, C, H, W] fine to coarse -> [B * R, C, POOLED, POOLED]."""
    if len(maps) == 1:
        return pool_by_products(maps[0], strides[0], boxes_xyxy)
    return pool_by_levels(maps, strides, boxes_xyxy)


def pool_by_products(level: Tensor, stride: int, boxes_xyxy: Tensor) -> Tensor:
    """RoIAlign as two matrix products, one along each axis, because its weights are products of two.

    On a map of some hundred cells this is several times as fast as gathering points, above all backwards.
    """
    down = shares(boxes_xyxy[..., 1], boxes_xyxy[..., 3], level.shape[2], stride)  # [B, R, POOLED, H]
    across = shares(boxes_xyxy[..., 0], boxes_xyxy[..., 2], level.shape[3], stride)  # [B, R, POOLED, W]
    rows = level.permute(0, 2, 3, 1).flatten(2)  # [B, H, W * C]
    rows = (down.flatten(1, 2) @ rows).unflatten(1, (-1, POOLED)).unflatten(3, (level.shape[3], -1))
    pooled = across[:, :, None] @ rows  # [B, R, POOLED, POOLED, C]
    return pooled.permute(0, 1, 4, 2, 3).flatten(0, 1)


def shares(low: Tensor, high: Tensor, cells: int, stride: int) -> Tensor:
    """How much each of `cells` counts in each bin of intervals [B, R] in pixels: [B, R, POOLED, cells].

    A bin is the mean over points that are interpolated linearly; points more than a cell outside count zero.
    """
    size = ((high - low) / stride).clamp(min=1) / (POOLED * SAMPLES)
    number = torch.arange(POOLED * SAMPLES, device=low.device) + 0.5
    points = (low / stride)[..., None] + size[..., None] * number  # [B, R, POOLED * SAMPLES]
    inside = (points >= -1) & (points <= cells)
    places = torch.arange(cells, device=low.device)
    weights = (1 - (points.clamp(0, cells - 1)[..., None] - places).abs()).clamp(min=0) * inside[..., None]
    return weights.unflatten(2, (POOLED, SAMPLES)).mean(3)


def pool_by_levels(maps: list[Tensor], strides: tuple[int, ...], boxes_xyxy: Tensor) -> Tensor:
    """torchvision's RoIAlign of each box on the map that suits its size.

    For export every map is pooled and the right values are picked, because there no shape may depend on
    the data; otherwise each map is pooled only for its own boxes. Both give the same.
    """
    batch, count, _ = boxes_xyxy.shape
    image = torch.arange(batch, device=boxes_xyxy.device, dtype=boxes_xyxy.dtype)
    image = image[:, None, None].expand(-1, count, 1)
    rois = torch.cat([image, boxes_xyxy], dim=2).flatten(0, 1)  # [B * R, 5]
    side = (rois[:, 3:] - rois[:, 1:3]).clamp(min=0).prod(dim=1).sqrt()
    # Lin et al. 2017, equation 1: a box of 224 pixels belongs on the map of stride 2^4.
    finest, coarsest = (int(math.log2(stride)) for stride in (strides[0], strides[-1]))
    level_of = torch.floor(4 + torch.log2(side / 224 + 1e-6)).clamp(min=finest, max=coarsest) - finest
    result = maps[0].new_zeros(rois.shape[0], maps[0].shape[1], POOLED, POOLED)
    for number, (level, stride) in enumerate(zip(maps, strides, strict=True)):
        if torch.compiler.is_exporting():
            values = roi_align(level, rois, POOLED, spatial_scale=1 / stride, sampling_ratio=SAMPLES)
            result = torch.where((level_of == number)[:, None, None, None], values, result)
        else:
            own = (level_of == number).nonzero()[:, 0]
            values = roi_align(level, rois[own], POOLED, spatial_scale=1 / stride, sampling_ratio=SAMPLES)
            result = result.index_copy(0, own, values)
    return result
