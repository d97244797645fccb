"""Set prediction, shared by the DETR models: one query is matched to each object, so no NMS is needed.

Matching and losses as in Carion et al. 2020, "End-to-End Object Detection with Transformers". All decoder layers are
supervised, each with its own matching. They are stacked along the batch, the last layer last: N = layers * B rows.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import box_convert, generalized_box_iou, generalized_box_iou_loss

from detector.engine.distributed import loss_normalizer
from detector.engine.structures import Targets
from detector.models.state_head import StateHead, box_loss_mask

BBOX_WEIGHT, GIOU_WEIGHT = 5.0, 2.0  # weights of L1 and generalized IoU in the matching cost and in the loss


class SetTargets(NamedTuple):
    """Targets of N rows: boxes_cxcywh float [N, M, 4], relative to the image size; labels, states int64 [N, M]."""

    boxes_cxcywh: Tensor
    labels: Tensor
    states: Tensor


class MatchIndices(NamedTuple):
    """P matches of queries and objects: indices int64 [P] of the row, the query and the object."""

    row: Tensor
    query: Tensor
    object: Tensor


def make_set_targets(targets: Targets, size: Tensor, layers: int) -> SetTargets:
    """Repeat the targets for each decoder layer; size: image height and width in pixels, [B, 2] or [1, 2]."""
    boxes_cxcywh = box_convert(targets.boxes_xyxy / size.flip(1).repeat(1, 2)[:, None], "xyxy", "cxcywh")
    labels, states = targets.labels.repeat(layers, 1), targets.states.repeat(layers, 1)
    return SetTargets(boxes_cxcywh.repeat(layers, 1, 1), labels, states)


def denormalize_boxes(boxes_cxcywh: Tensor, size: Tensor) -> Tensor:
    """Relative boxes [B, Q, 4] -> boxes_xyxy in pixels; size: image height and width, [B, 2] or [1, 2]."""
    boxes_xyxy: Tensor = box_convert(boxes_cxcywh, "cxcywh", "xyxy") * size.flip(1).repeat(1, 2)[:, None]
    return boxes_xyxy


def count_objects(targets: Targets) -> Tensor:
    """The divisor of the losses: the number of objects in the batch, at least 1; a float scalar.

    Every training process must call it once per batch, with or without objects.
    """
    return loss_normalizer((targets.labels > 0).sum()).float()


@torch.no_grad()
def hungarian_match(boxes_cxcywh: Tensor, class_cost: Tensor, set_targets: SetTargets) -> MatchIndices:
    """Match one query to each object at the lowest total cost (Kuhn 1955, "The Hungarian Method").

    boxes_cxcywh [N, Q, 4]; class_cost [N, Q, C]: cost of matching a query to an object of a class. Matches are in row
    order. All costs are moved to the CPU at once.
    """
    category = (set_targets.labels - 1).clamp(min=0)[:, None].expand(-1, boxes_cxcywh.shape[1], -1)  # [N, Q, M]
    overlap = generalized_box_iou(
        box_convert(boxes_cxcywh, "cxcywh", "xyxy"), box_convert(set_targets.boxes_cxcywh, "cxcywh", "xyxy")
    )
    distance = torch.cdist(boxes_cxcywh, set_targets.boxes_cxcywh, p=1)
    costs = class_cost.gather(2, category) + BBOX_WEIGHT * distance - GIOU_WEIGHT * overlap
    # Non-finite costs become high ones; the training loop reports the non-finite loss.
    costs = costs.nan_to_num(nan=1e6, posinf=1e6, neginf=1e6).cpu()
    real = (set_targets.labels > 0).cpu()
    matches = []
    for row, (row_costs, is_object) in enumerate(zip(costs, real, strict=True)):
        objects = is_object.nonzero()[:, 0]
        query, column = (torch.from_numpy(index) for index in linear_sum_assignment(row_costs[:, objects].numpy()))
        matches.append(torch.stack([torch.full_like(query, row), query, objects[column]]))
    return MatchIndices(*torch.cat(matches, dim=1).to(boxes_cxcywh.device))


def box_losses(
    boxes_cxcywh: Tensor, set_targets: SetTargets, matches: MatchIndices, states: StateHead | None
) -> dict[str, Tensor]:
    """`loss_bbox` (L1) and `loss_giou` (Rezatofighi et al. 2019) of boxes [N, Q, 4], summed over the matches."""
    mask = box_loss_mask(states, set_targets.states[matches.row, matches.object])
    row, query, object_index = (column[mask] for column in matches)
    boxes = boxes_cxcywh[row, query]  # [P, 4]
    true_boxes = set_targets.boxes_cxcywh[row, object_index]
    giou_loss = generalized_box_iou_loss(
        box_convert(boxes, "cxcywh", "xyxy"), box_convert(true_boxes, "cxcywh", "xyxy"), reduction="sum"
    )
    l1_loss = F.l1_loss(boxes, true_boxes, reduction="sum")
    return {"loss_bbox": l1_loss * BBOX_WEIGHT, "loss_giou": giou_loss * GIOU_WEIGHT}


def state_loss(state_logits: Tensor, set_targets: SetTargets, matches: MatchIndices, states: StateHead) -> Tensor:
    """The state loss of the last layer, the only one that predicts states: state_logits [B, Q, S]."""
    first = len(set_targets.labels) - len(state_logits)
    last = matches.row >= first
    row, query, object_index = (column[last] for column in matches)
    return states.loss(state_logits[row - first, query], set_targets.states[row, object_index])


def gather_target_states(boxes_xyxy: Tensor, state_logits: Tensor | None, targets: Targets | None) -> Tensor | None:
    """State logits [B, M, S] of each ground-truth box: those of the query whose box [B, Q, 4] fits best.

    The fit is the generalized IoU, which also ranks boxes that do not overlap.
    """
    if targets is None or state_logits is None:
        return None
    best = generalized_box_iou(targets.boxes_xyxy, boxes_xyxy).argmax(-1)  # [B, M]
    return state_logits.gather(1, best[..., None].expand(-1, -1, state_logits.shape[-1]))
