"""Shared by the anchor-based models: box encoding, anchor matching, balanced sampling. All batched."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from detector.engine.structures import Targets
from detector.models.postprocess import box_iou_xyxy

# Limits growth of widths and heights to this factor (1000 / 16), as in Detectron: exp() must not overflow.
MAX_LOG_SCALE = math.log(1000.0 / 16)

CoderWeights = tuple[float, float, float, float]


def encode_boxes(boxes_xyxy: Tensor, anchors_xyxy: Tensor, weights: CoderWeights) -> Tensor:
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


def decode_offsets(offsets: Tensor, anchors_xyxy: Tensor, weights: CoderWeights) -> Tensor:
    """Boxes xyxy [..., 4] from offsets and anchors [..., 4]: the inverse of `encode_boxes`."""
    x, y, width, height = _to_cxcywh(anchors_xyxy)
    center_x = offsets[..., 0] / weights[0] * width + x
    center_y = offsets[..., 1] / weights[1] * height + y
    half_width = (offsets[..., 2] / weights[2]).clamp(max=MAX_LOG_SCALE).exp() * width / 2
    half_height = (offsets[..., 3] / weights[3]).clamp(max=MAX_LOG_SCALE).exp() * height / 2
    return torch.stack(
        [center_x - half_width, center_y - half_height, center_x + half_width, center_y + half_height], dim=-1
    )


def _to_cxcywh(boxes_xyxy: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    left, top, right, bottom = boxes_xyxy.unbind(-1)
    return (left + right) / 2, (top + bottom) / 2, right - left, bottom - top


def match_anchors(
    anchors_xyxy: Tensor, targets: Targets, background_iou: float, object_iou: float, allow_low_quality_matches: bool
) -> Tensor:
    """Match each anchor [A, 4] (or [B, A, 4]) to an object: int64 [B, A].

    The index of the object with the highest IoU if that is at least `object_iou`; -1 (background) if it is below
    `background_iou`; -2 (ignored) in between. With `allow_low_quality_matches`, each object also gets the anchors
    that overlap it most, however little.
    """
    overlap = _overlap_with_objects(anchors_xyxy, targets)  # [B, M, A]
    if overlap.shape[1] == 0:
        return torch.full_like(overlap.sum(dim=1), -1, dtype=torch.int64)
    highest, index = overlap.max(dim=1)  # [B, A]
    matched = torch.where(highest >= object_iou, index, torch.where(highest < background_iou, -1, -2))
    if allow_low_quality_matches:
        best = overlap.amax(dim=2, keepdim=True)
        is_best = (overlap == best) & (best > 0)  # [B, M, A]
        matched = torch.where(is_best.any(dim=1), index, matched)
    return matched


def match_default_boxes(anchors_xyxy: Tensor, targets: Targets, object_iou: float) -> Tensor:
    """Match each anchor [A, 4] to an object by SSD's rule: int64 [B, A], -1 for background.

    Each object gets the anchor that overlaps it most, also if the anchor overlaps another object more; of several
    objects with the same such anchor the last one. Any other anchor is matched to the object with the highest IoU if
    that is at least `object_iou` (Liu et al. 2016, "SSD: Single Shot MultiBox Detector").
    """
    matched = match_anchors(anchors_xyxy, targets, object_iou, object_iou, allow_low_quality_matches=False)
    overlap = _overlap_with_objects(anchors_xyxy, targets)  # [B, M, A]
    if overlap.shape[1] == 0:
        return matched
    highest, best_anchor = overlap.max(dim=2)  # [B, M]
    is_best = F.one_hot(best_anchor, overlap.shape[2]).bool() & (highest > 0)[..., None]  # [B, M, A]
    number = torch.arange(overlap.shape[1], device=matched.device)[:, None]
    last = torch.where(is_best, number, -1).amax(dim=1)  # [B, A]
    return torch.where(last >= 0, last, matched)


def _overlap_with_objects(anchors_xyxy: Tensor, targets: Targets) -> Tensor:
    """IoU of each object with each anchor, [A, 4] or [B, A, 4]: [B, M, A]; -1 for padding."""
    batch = len(targets.labels)
    anchors = anchors_xyxy.expand(batch, -1, 4) if anchors_xyxy.dim() == 2 else anchors_xyxy
    real = (targets.labels > 0)[..., None]  # [B, M, 1]
    return torch.where(real, box_iou_xyxy(targets.boxes_xyxy, anchors), -1.0)


def sample_balanced(matched: Tensor, count: int, positive_fraction: float) -> tuple[Tensor, Tensor]:
    """Sample `count` anchors per image, at most `positive_fraction` of them positive: two bool masks [B, A].

    Returns positives and negatives. matched: from `match_anchors`. Uses torch's generator.
    """
    noise = torch.rand(matched.shape, device=matched.device)
    positive = _select_highest(noise, matched >= 0, torch.full_like(matched[:, :1], int(count * positive_fraction)))
    negative = _select_highest(noise, matched == -1, count - positive.sum(dim=1, keepdim=True))
    return positive, negative


def _select_highest(noise: Tensor, allowed: Tensor, count_limit: Tensor) -> Tensor:
    """Of the allowed anchors [B, A], the `count_limit` [B, 1] with the highest noise."""
    rank = torch.where(allowed, noise, -1.0).argsort(dim=1, descending=True).argsort(dim=1)
    return allowed & (rank < count_limit)
