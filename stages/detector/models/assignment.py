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
    most = targets.labels.shape[1]
    # Most boxes contain few of the locations, so all but the first line works on the P pairs of a box and a location
    # inside it, in the order of images, boxes and locations.
    inside = _is_inside(centers, targets.boxes_xyxy) & (targets.labels > 0)[..., None]
    image, box, location = inside.nonzero(as_tuple=True)
    iou = box_iou_xyxy(targets.boxes_xyxy[image, box][:, None], boxes_xyxy[image, location][:, None])[:, 0, 0]
    metric = class_scores[image, location, targets.labels[image, box] - 1].pow(alpha) * iou.pow(beta)
    owner = image * most + box
    kept = _find_best(metric, owner, topk)
    kept = kept[metric[kept] > 0]
    box, owner, iou, metric = box[kept], owner[kept], iou[kept], metric[kept]
    cell = image[kept] * locations + location[kept]
    highest = iou.new_zeros(batch * locations).scatter_reduce(0, cell, iou, "amax")
    claims = torch.where(iou == highest[cell], box, most)  # of equal IoUs, the first box
    first = claims.new_full((batch * locations,), most).scatter_reduce(0, cell, claims, "amin")
    owned = (first[cell] == box).nonzero()[:, 0]  # as indices: a mask would wait for the GPU at each use
    box, owner, cell, iou, metric = box[owned], owner[owned], cell[owned], iou[owned], metric[owned]
    # The best location of each box gets the box's highest IoU as its target score.
    best_metric = metric.new_zeros(batch * most).scatter_reduce(0, owner, metric, "amax")
    best_iou = iou.new_zeros(batch * most).scatter_reduce(0, owner, iou, "amax")
    scale = best_iou / best_metric.clamp(min=torch.finfo(metric.dtype).tiny)
    quality = metric.new_zeros(batch * locations)
    quality[cell] = metric * scale[owner]
    box_index = box.new_zeros(batch * locations)
    box_index[cell] = box
    return Assignment(box_index.view(batch, locations), quality.view(batch, locations))


def _find_best(values: Tensor, groups: Tensor, count: int) -> Tensor:
    """Indices of the `count` highest of P values of each group, int64; the first ones of equal values.

    groups: int64 [P], in ascending order.
    """
    order = values.argsort(descending=True, stable=True)
    order = order[groups[order].argsort(stable=True)]
    rank = torch.arange(len(groups), device=groups.device) - torch.searchsorted(groups, groups)
    return order[rank < count]


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
    x, y = centers.unbind(-1)
    left, top, right, bottom = boxes_xyxy[:, :, None].unbind(-1)
    return (x > left) & (y > top) & (x < right) & (y < bottom)
