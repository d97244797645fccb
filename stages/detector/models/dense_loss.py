"""The loss of the dense head: class, overlap and edge terms."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import complete_box_iou_loss

from detector.engine.distributed import loss_normalizer
from detector.engine.structures import Targets
from detector.models.assignment import assign
from detector.models.dense_head import BINS, DenseLogits, decode_boxes
from detector.models.state_head import StateHead


def dense_loss(
    logits: DenseLogits, centres: Tensor, strides: Tensor, targets: Targets, states: StateHead | None
) -> dict[str, Tensor]:
    """Scalars `class`, `box`, `edge` and, with a state head, `state`, to be summed.

    centres [L, 2] and strides [L] in pixels. The class target is the assignment's quality, so a score
    learns to tell how well its box fits; the first three are normalized by the sum of qualities (weights
    as in YOLOv8's published recipe). The box of an absent object is a guess: it teaches no edges.
    """
    boxes = decode_boxes(logits.boxes, centres, strides)
    assignment = assign(boxes.detach(), logits.classes.detach().sigmoid(), centres, targets)
    total = loss_normalizer(assignment.quality.sum())
    class_targets = _class_targets(assignment.quality, assignment.box_index, targets, logits.classes)
    class_loss = F.binary_cross_entropy_with_logits(logits.classes, class_targets, reduction="sum")
    image, location = (assignment.quality > 0).nonzero(as_tuple=True)  # [P]
    owner = assignment.box_index[image, location]  # [P]
    losses = {"class": class_loss / total * 0.5}
    weight = assignment.quality[image, location]  # [P]
    if states is not None and logits.states is not None:
        true_states = targets.states[image, owner]
        losses["state"] = states.loss(logits.states[image, location], true_states)
        weight = weight * states.is_present(true_states)
    if len(image) == 0:
        zero = logits.boxes.sum() * 0
        return losses | {"box": zero, "edge": zero}
    wanted = targets.boxes_xyxy[image, owner]  # [P, 4]
    overlap = complete_box_iou_loss(boxes[image, location], wanted)
    edges = _edge_loss(logits.boxes[image, location], wanted, centres[location], strides[location])
    return losses | {
        "box": (overlap * weight).sum() / total * 7.5,
        "edge": (edges * weight).sum() / total * 1.5,
    }


def _class_targets(quality: Tensor, box_index: Tensor, targets: Targets, like: Tensor) -> Tensor:
    wanted = torch.zeros_like(like)
    if targets.labels.shape[1] == 0:
        return wanted
    category = (targets.labels.gather(1, box_index) - 1).clamp(min=0)  # [B, L]
    return wanted.scatter_(2, category[..., None], quality[..., None].to(like.dtype))


def _edge_loss(logits: Tensor, boxes_xyxy: Tensor, centres: Tensor, strides: Tensor) -> Tensor:
    """Distribution focal loss [P]: cross-entropy with the two bins around each true distance."""
    distances = torch.cat([centres - boxes_xyxy[:, :2], boxes_xyxy[:, 2:] - centres], dim=-1)  # [P, 4]
    distances = (distances / strides[:, None]).clamp(0, BINS - 1 - 0.01)
    low = distances.long()
    share = distances - low
    low, share = low.flatten(), share.flatten()  # [P * 4]: only then is it deterministic on a GPU
    logits = logits.reshape(-1, BINS)  # [P * 4, BINS]
    loss = F.cross_entropy(logits, low, reduction="none") * (1 - share)
    loss = loss + F.cross_entropy(logits, low + 1, reduction="none") * share
    return loss.unflatten(0, (-1, 4)).mean(-1)
