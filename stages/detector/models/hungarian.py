"""What models share that predict a set: each object has one query to answer for it, so that no NMS is needed.

Matching and losses as in Carion et al. 2020, "End-to-End Object Detection with Transformers". All decoder
layers are taught, each with a matching of its own; here they stand one after another in the batch, the last
one last: N rows are layers * B.
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
from detector.models.state_head import StateHead

BOX_WEIGHT, EDGE_WEIGHT = 5.0, 2.0  # of L1 and generalized IoU, in the matching and in the loss


class Goals(NamedTuple):
    """What each row should predict: boxes_cxcywh float [N, M, 4], shares of the picture; labels, states [N, M]."""

    boxes_cxcywh: Tensor
    labels: Tensor
    states: Tensor


class Pairs(NamedTuple):
    """P queries and the objects they answer for: indices int64 [P] of the row, the query and the object."""

    row: Tensor
    query: Tensor
    object: Tensor


def goals_of(targets: Targets, size: Tensor, layers: int) -> Goals:
    """The targets of `layers` decoder layers; size: height and width in pixels, [B, 2] or [1, 2]."""
    boxes_cxcywh = box_convert(targets.boxes_xyxy / size.flip(1).repeat(1, 2)[:, None], "xyxy", "cxcywh")
    return Goals(boxes_cxcywh.repeat(layers, 1, 1), targets.labels.repeat(layers, 1), targets.states.repeat(layers, 1))


def to_pixels(boxes_cxcywh: Tensor, size: Tensor) -> Tensor:
    """boxes_xyxy [B, Q, 4] in pixels from shares of a picture of `size`: height and width, [B, 2] or [1, 2]."""
    return box_convert(boxes_cxcywh, "cxcywh", "xyxy") * size.flip(1).repeat(1, 2)[:, None]


def object_count(targets: Targets) -> Tensor:
    """What losses are divided by: the number of objects in the batch; a float scalar.

    Every process that trains must ask once a batch, whether it has objects or not.
    """
    return loss_normalizer((targets.labels > 0).sum()).float()


@torch.no_grad()
def match(boxes_cxcywh: Tensor, class_cost: Tensor, goals: Goals) -> Pairs:
    """The cheapest assignment of one query to each object (Kuhn 1955, "The Hungarian Method").

    boxes_cxcywh [N, Q, 4]; class_cost [N, Q, C]: what it costs that a query answers for an object of a class.
    Pairs come in the order of the rows. All costs are moved to the CPU at once.
    """
    category = (goals.labels - 1).clamp(min=0)[:, None].expand(-1, boxes_cxcywh.shape[1], -1)  # [N, Q, M]
    overlap = generalized_box_iou(
        box_convert(boxes_cxcywh, "cxcywh", "xyxy"), box_convert(goals.boxes_cxcywh, "cxcywh", "xyxy")
    )
    distance = torch.cdist(boxes_cxcywh, goals.boxes_cxcywh, p=1)
    costs = class_cost.gather(2, category) + BOX_WEIGHT * distance - EDGE_WEIGHT * overlap
    # What is not finite loses here and is reported by the training loop, which sees the loss.
    costs = costs.nan_to_num(nan=1e6, posinf=1e6, neginf=1e6).cpu()
    real = (goals.labels > 0).cpu()
    found = []
    for row, (table, known) in enumerate(zip(costs, real, strict=True)):
        objects = known.nonzero()[:, 0]
        query, place = (torch.from_numpy(index) for index in linear_sum_assignment(table[:, objects].numpy()))
        found.append(torch.stack([torch.full_like(query, row), query, objects[place]]))
    return Pairs(*torch.cat(found, dim=1).to(boxes_cxcywh.device))


def box_losses(boxes_cxcywh: Tensor, goals: Goals, pairs: Pairs, states: StateHead | None) -> dict[str, Tensor]:
    """`box`, L1, and `edge`, generalized IoU (Rezatofighi et al. 2019), of boxes [N, Q, 4]: sums over the pairs.

    The box of an absent object is a guess: it teaches no edges.
    """
    if states is not None:
        there = states.is_present(goals.states[pairs.row, pairs.object])
        pairs = Pairs(*(column[there] for column in pairs))
    found = boxes_cxcywh[pairs.row, pairs.query]  # [P, 4]
    wanted = goals.boxes_cxcywh[pairs.row, pairs.object]
    overlap = generalized_box_iou_loss(
        box_convert(found, "cxcywh", "xyxy"), box_convert(wanted, "cxcywh", "xyxy"), reduction="sum"
    )
    return {"box": F.l1_loss(found, wanted, reduction="sum") * BOX_WEIGHT, "edge": overlap * EDGE_WEIGHT}


def state_loss(state_logits: Tensor, goals: Goals, pairs: Pairs, states: StateHead) -> Tensor:
    """Of the last layer's queries [B, Q, S], the only ones whose state is read."""
    first = len(goals.labels) - len(state_logits)
    last = pairs.row >= first
    row, query, place = pairs.row[last], pairs.query[last], pairs.object[last]
    return states.loss(state_logits[row - first, query], goals.states[row, place])


def states_of_objects(boxes_xyxy: Tensor, state_logits: Tensor | None, targets: Targets | None) -> Tensor | None:
    """State logits [B, M, S] of the true boxes: for each, of the query whose box [B, Q, 4] fits it best.

    By generalized IoU, which tells near from far where nothing overlaps.
    """
    if targets is None or state_logits is None:
        return None
    best = generalized_box_iou(targets.boxes_xyxy, boxes_xyxy).argmax(-1)  # [B, M]
    return state_logits.gather(1, best[..., None].expand(-1, -1, state_logits.shape[-1]))
