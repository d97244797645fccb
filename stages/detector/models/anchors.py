"""What anchor-based models share: box offsets, anchor-to-object matching, balanced sampling. All batched."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from detector.engine.structures import Targets
from detector.models.postprocess import pairwise_iou_xyxy

# Widths and heights grow by at most this factor (1000 / 16), as in Detectron: exp() must not overflow.
LARGEST_LOG_SCALE = math.log(1000.0 / 16)

Weights = tuple[float, float, float, float]


def encode(boxes_xyxy: Tensor, anchors_xyxy: Tensor, weights: Weights) -> Tensor:
    """Offsets [..., 4] that turn anchors [..., 4] into boxes (Ren et al. 2015, "Faster R-CNN")."""
    x, y, width, height = _to_cxcywh(anchors_xyxy)
    box_x, box_y, box_width, box_height = _to_cxcywh(boxes_xyxy)
    return torch.stack(
        [
            weights[0] * (box_x - x) / width,
            weights[1] * (box_y - y) / height,
            weights[2] * torch.log(box_width.clamp(min=1e-3) / width),
            weights[3] * torch.log(box_height.clamp(min=1e-3) / height),
        ],
        dim=-1,
    )


def decode(offsets: Tensor, anchors_xyxy: Tensor, weights: Weights) -> Tensor:
    """Boxes xyxy [..., 4] from offsets and anchors [..., 4]: the inverse of `encode`."""
    x, y, width, height = _to_cxcywh(anchors_xyxy)
    centre_x = offsets[..., 0] / weights[0] * width + x
    centre_y = offsets[..., 1] / weights[1] * height + y
    half_width = (offsets[..., 2] / weights[2]).clamp(max=LARGEST_LOG_SCALE).exp() * width / 2
    half_height = (offsets[..., 3] / weights[3]).clamp(max=LARGEST_LOG_SCALE).exp() * height / 2
    return torch.stack(
        [centre_x - half_width, centre_y - half_height, centre_x + half_width, centre_y + half_height], dim=-1
    )


def _to_cxcywh(boxes_xyxy: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    left, top, right, bottom = boxes_xyxy.unbind(-1)
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top


def match(anchors_xyxy: Tensor, targets: Targets, low: float, high: float, keep_best: bool) -> Tensor:
    """For each anchor [A, 4] (or [B, A, 4]) the object it answers for: int64 [B, A].

    The index of the object that overlaps it most if by at least `high`; -1 (background) if by less than
    `low`; -2 (neither) in between. With `keep_best`, each object also takes the anchors that overlap it
    most, however little.
    """
    batch, objects = targets.labels.shape
    anchors = anchors_xyxy.expand(batch, -1, 4) if anchors_xyxy.dim() == 2 else anchors_xyxy  # [B, A, 4]
    if objects == 0:
        return torch.full(anchors.shape[:2], -1, dtype=torch.int64, device=anchors.device)
    real = (targets.labels > 0)[..., None]  # [B, M, 1]
    overlap = torch.where(real, pairwise_iou_xyxy(targets.boxes_xyxy, anchors), -1.0)  # [B, M, A]
    highest, index = overlap.max(dim=1)  # [B, A]
    matched = torch.where(highest >= high, index, torch.where(highest < low, -1, -2))
    if keep_best:
        best = overlap.amax(dim=2, keepdim=True)
        wanted = (overlap == best) & (best > 0)  # [B, M, A]
        matched = torch.where(wanted.any(dim=1), index, matched)
    return matched


def sample(matched: Tensor, count: int, positive_share: float) -> tuple[Tensor, Tensor]:
    """Random positives (at most the share) and negatives, `count` an image: bool [B, A] each.

    matched: from `match`. Uses torch's generator.
    """
    noise = torch.rand(matched.shape, device=matched.device)
    positive = _pick(noise, matched >= 0, torch.full_like(matched[:, :1], int(count * positive_share)))
    negative = _pick(noise, matched == -1, count - positive.sum(dim=1, keepdim=True))
    return positive, negative


def _pick(noise: Tensor, allowed: Tensor, most: Tensor) -> Tensor:
    """Up to `most` [B, 1] of the allowed places [B, A], those with the highest noise."""
    rank = torch.where(allowed, noise, -1.0).argsort(dim=1, descending=True).argsort(dim=1)
    return allowed & (rank < most)
