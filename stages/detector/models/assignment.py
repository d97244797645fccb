"""Assignment of locations to ground-truth boxes."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from detector.engine.structures import Targets
from detector.models.postprocess import box_iou_xyxy


class Assignment(NamedTuple):
    """The ground-truth box of each of L locations and the quality of the assignment.

    box_index: int64 [B, L], index into the image's boxes (0 for background).
    quality: float [B, L], 0..1, 0 for background: the target of the class score.
    """

    box_index: Tensor
    quality: Tensor


@torch.no_grad()
def assign_task_aligned(
    boxes_xyxy: Tensor,
    class_scores: Tensor,
    centers: Tensor,
    targets: Targets,
    *,
    topk: int = 10,
    alpha: float = 0.5,
    beta: float = 6.0,
) -> Assignment:
    """Task-aligned assignment (Feng et al. 2021, "TOOD").

    Each ground-truth box takes the `topk` locations inside it with the highest score^alpha * IoU^beta; a location
    claimed by several boxes is assigned to the one with the highest IoU.

    boxes_xyxy [B, L, 4] in pixels, class_scores [B, L, C] in 0..1, centers [L, 2]; M boxes per image.
    """
    batch, locations, _ = boxes_xyxy.shape
    real = targets.labels > 0  # [B, M]
    if targets.labels.shape[1] == 0:
        empty = torch.zeros(batch, locations, device=boxes_xyxy.device)
        return Assignment(empty.long(), empty)
    iou = box_iou_xyxy(targets.boxes_xyxy, boxes_xyxy)  # [B, M, L]
    category = (targets.labels - 1).clamp(min=0)[:, None, :].expand(-1, locations, -1)
    score = class_scores.gather(2, category).transpose(1, 2)  # [B, M, L]
    inside = _is_inside(centers, targets.boxes_xyxy) & real[..., None]
    metric = score.pow(alpha) * iou.pow(beta) * inside
    best, index = metric.topk(min(topk, locations), dim=-1)
    candidate = torch.zeros_like(metric).scatter_(-1, index, (best > 0).to(metric.dtype)) > 0
    overlap = torch.where(candidate, iou, -torch.ones_like(iou))
    highest, box_index = overlap.max(dim=1)  # [B, L]
    owned = candidate & (torch.arange(metric.shape[1], device=iou.device)[None, :, None] == box_index[:, None, :])
    # The best location of each box gets the box's highest IoU as its target score.
    metric = metric * owned
    best_metric = metric.amax(-1, keepdim=True).clamp(min=torch.finfo(metric.dtype).tiny)
    scale = (iou * owned).amax(-1, keepdim=True) / best_metric
    quality = (metric * scale).amax(1) * (highest >= 0)  # [B, L]
    return Assignment(box_index, quality)


def find_nearest_locations(boxes_xyxy: Tensor, centers: Tensor, targets: Targets) -> Tensor:
    """For each ground-truth box, the location inside it whose predicted box [B, L, 4] fits best: int64 [B, M].

    The nearest location if no center is inside.
    """
    true_centers = (targets.boxes_xyxy[..., :2] + targets.boxes_xyxy[..., 2:]) / 2  # [B, M, 2]
    distance = (true_centers[:, :, None] - centers).square().sum(-1)  # [B, M, L]
    fit = box_iou_xyxy(targets.boxes_xyxy, boxes_xyxy) + 1
    return torch.where(_is_inside(centers, targets.boxes_xyxy), fit, -distance).argmax(-1)


def _is_inside(centers: Tensor, boxes_xyxy: Tensor) -> Tensor:
    """Whether each center [L, 2] is inside each box [B, M, 4]: bool [B, M, L]."""
    left_top = centers[None, None] - boxes_xyxy[:, :, None, :2]
    right_bottom = boxes_xyxy[:, :, None, 2:] - centers[None, None]
    return torch.cat([left_top, right_bottom], dim=-1).amin(-1) > 0
