"""Which location answers for which ground-truth box."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from detector.engine.structures import Targets
from detector.models.postprocess import pairwise_iou_xyxy


class Assignment(NamedTuple):
    """For each of L locations: its ground-truth box and how well it fits.

    box_index: int64 [B, L], index into the image's boxes (0 where there is none).
    quality: float [B, L], 0..1, 0 for background: the score that the location should give the class.
    """

    box_index: Tensor
    quality: Tensor


@torch.no_grad()
def assign(
    boxes_xyxy: Tensor,
    class_scores: Tensor,
    centres: Tensor,
    targets: Targets,
    topk: int = 10,
    alpha: float = 0.5,
    beta: float = 6.0,
) -> Assignment:
    """Task-aligned assignment (Feng et al. 2021, "TOOD").

    Each ground-truth box takes the `topk` locations inside it with the highest
    score^alpha * IoU^beta; a location wanted by several boxes goes to the one it overlaps most.

    boxes_xyxy [B, L, 4] in pixels, class_scores [B, L, C] in 0..1, centres [L, 2]; M boxes an image.
    """
    batch, locations, _ = boxes_xyxy.shape
    real = targets.labels > 0  # [B, M]
    if targets.labels.shape[1] == 0:
        empty = torch.zeros(batch, locations, device=boxes_xyxy.device)
        return Assignment(empty.long(), empty)
    iou = pairwise_iou_xyxy(targets.boxes_xyxy, boxes_xyxy)  # [B, M, L]
    category = (targets.labels - 1).clamp(min=0)[:, None, :].expand(-1, locations, -1)
    score = class_scores.gather(2, category).transpose(1, 2)  # [B, M, L]
    inside = _inside(centres, targets.boxes_xyxy) & real[..., None]
    metric = score.pow(alpha) * iou.pow(beta) * inside
    best, index = metric.topk(min(topk, locations), dim=-1)
    candidate = torch.zeros_like(metric).scatter_(-1, index, (best > 0).to(metric.dtype)) > 0
    overlap = torch.where(candidate, iou, -torch.ones_like(iou))
    highest, box_index = overlap.max(dim=1)  # [B, L]
    owned = candidate & (torch.arange(metric.shape[1], device=iou.device)[None, :, None] == box_index[:, None, :])
    # The best location of each box gets that box's highest IoU as its target score.
    metric = metric * owned
    best_metric = metric.amax(-1, keepdim=True).clamp(min=torch.finfo(metric.dtype).tiny)
    scale = (iou * owned).amax(-1, keepdim=True) / best_metric
    quality = (metric * scale).amax(1) * (highest >= 0)  # [B, L]
    return Assignment(box_index, quality)


def nearest_locations(boxes_xyxy: Tensor, centres: Tensor, targets: Targets) -> Tensor:
    """For each true box the location inside it whose own box [B, L, 4] fits best: int64 [B, M].

    Where no centre lies inside, the nearest one.
    """
    true_centres = (targets.boxes_xyxy[..., :2] + targets.boxes_xyxy[..., 2:]) / 2  # [B, M, 2]
    distance = (true_centres[:, :, None] - centres).square().sum(-1)  # [B, M, L]
    fit = pairwise_iou_xyxy(targets.boxes_xyxy, boxes_xyxy) + 1
    return torch.where(_inside(centres, targets.boxes_xyxy), fit, -distance).argmax(-1)


def _inside(centres: Tensor, boxes_xyxy: Tensor) -> Tensor:
    """Whether each centre [L, 2] lies in each box [B, M, 4]: bool [B, M, L]."""
    after = centres[None, None] - boxes_xyxy[:, :, None, :2]
    before = boxes_xyxy[:, :, None, 2:] - centres[None, None]
    return torch.cat([after, before], dim=-1).amin(-1) > 0
