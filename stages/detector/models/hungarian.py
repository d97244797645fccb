"""Matching queries and objects: for the state loss, which knows absent objects too, and for evaluating states.

The class and box losses have their own matching, that of transformers.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torchvision.ops import box_convert, generalized_box_iou

from detector.engine.structures import Targets
from detector.models.state_head import StateHead

BBOX_COST, GIOU_COST = 5.0, 2.0  # of L1 and generalized IoU, as in Carion et al. 2020


class MatchIndices(NamedTuple):
    """P matches of queries and objects: indices int64 [P] of the image, the query and the object."""

    image: Tensor
    query: Tensor
    object: Tensor


def normalize_boxes(boxes_xyxy: Tensor, size: Tensor) -> Tensor:
    """Boxes in pixels [B, M, 4] -> relative boxes_cxcywh; size: image height and width, [B, 2] or [1, 2]."""
    boxes_cxcywh: Tensor = box_convert(boxes_xyxy / size.flip(1).repeat(1, 2)[:, None], "xyxy", "cxcywh")
    return boxes_cxcywh


def denormalize_boxes(boxes_cxcywh: Tensor, size: Tensor) -> Tensor:
    """Relative boxes [B, Q, 4] -> boxes_xyxy in pixels; size: image height and width, [B, 2] or [1, 2]."""
    boxes_xyxy: Tensor = box_convert(boxes_cxcywh, "cxcywh", "xyxy") * size.flip(1).repeat(1, 2)[:, None]
    return boxes_xyxy


@torch.no_grad()
def hungarian_match(scores: Tensor, boxes_cxcywh: Tensor, targets: Targets, size: Tensor) -> MatchIndices:
    """Match one query to each object at the lowest total cost (Kuhn 1955, "The Hungarian Method").

    scores [B, Q, C] 0..1, boxes_cxcywh [B, Q, 4], relative to `size` [B, 2] or [1, 2]. Matches are in the order of the
    images. All costs are moved to the CPU at once.
    """
    from scipy.optimize import linear_sum_assignment  # slow to import, and other models do not need it

    true_boxes = normalize_boxes(targets.boxes_xyxy, size)
    category = (targets.labels - 1).clamp(min=0)[:, None].expand(-1, boxes_cxcywh.shape[1], -1)  # [B, Q, M]
    overlap = generalized_box_iou(
        box_convert(boxes_cxcywh, "cxcywh", "xyxy"), box_convert(true_boxes, "cxcywh", "xyxy")
    )
    distance = torch.cdist(boxes_cxcywh, true_boxes, p=1)
    costs = BBOX_COST * distance - GIOU_COST * overlap - scores.gather(2, category)
    # Non-finite costs become high ones; the training loop reports the non-finite loss.
    costs = costs.nan_to_num(nan=1e6, posinf=1e6, neginf=1e6).cpu()
    real = (targets.labels > 0).cpu()
    matches = []
    for image, (image_costs, is_object) in enumerate(zip(costs, real, strict=True)):
        objects = is_object.nonzero()[:, 0]
        query, column = (torch.from_numpy(index) for index in linear_sum_assignment(image_costs[:, objects].numpy()))
        matches.append(torch.stack([torch.full_like(query, image), query, objects[column]]))
    return MatchIndices(*torch.cat(matches, dim=1).to(boxes_cxcywh.device))


def state_loss(state_logits: Tensor, targets: Targets, matches: MatchIndices, states: StateHead) -> Tensor:
    """The state loss of the matched queries; state_logits [B, Q, S]."""
    image, query, object_index = matches
    return states.loss(state_logits[image, query], targets.states[image, object_index])


def gather_target_states(boxes_xyxy: Tensor, state_logits: Tensor | None, targets: Targets | None) -> Tensor | None:
    """State logits [B, M, S] of each ground-truth box: those of the query whose box [B, Q, 4] fits best.

    The fit is the generalized IoU, which also ranks boxes that do not overlap.
    """
    if targets is None or state_logits is None:
        return None
    best = generalized_box_iou(targets.boxes_xyxy, boxes_xyxy).argmax(-1)  # [B, M]
    return state_logits.gather(1, best[..., None].expand(-1, -1, state_logits.shape[-1]))
