"""The loss of the dense head: class, overlap and edge terms."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import complete_box_iou_loss

from detector.contract import Targets
from detector.models.assignment import assign
from detector.models.dense_head import BINS, decode_boxes


def dense_loss(
    class_logits: Tensor, box_logits: Tensor, centres: Tensor, strides: Tensor, targets: Targets
) -> dict[str, Tensor]:
    """Scalars `class`, `box` and `edge`, to be summed.

    class_logits [B, L, C], box_logits [B, L, 4 * BINS], centres [L, 2] and strides [L] in pixels.
    The class target is the assignment's quality, so a score learns to tell how well its box fits;
    all terms are normalized by the sum of qualities (weights as in YOLOv8's published recipe).
    """
    boxes = decode_boxes(box_logits, centres, strides)
    assignment = assign(boxes.detach(), class_logits.detach().sigmoid(), centres, targets)
    total = assignment.quality.sum().clamp(min=1.0)
    class_loss = F.binary_cross_entropy_with_logits(
        class_logits,
        _class_targets(assignment.quality, assignment.box_index, targets, class_logits),
        reduction="sum",
    )
    image, location = (assignment.quality > 0).nonzero(as_tuple=True)  # [P]
    if len(image) == 0:
        zero = box_logits.sum() * 0
        return {"class": class_loss / total * 0.5, "box": zero, "edge": zero}
    weight = assignment.quality[image, location]  # [P]
    wanted = targets.boxes_xyxy[image, assignment.box_index[image, location]]  # [P, 4]
    overlap = complete_box_iou_loss(boxes[image, location], wanted)
    edges = _edge_loss(box_logits[image, location], wanted, centres[location], strides[location])
    return {
        "class": class_loss / total * 0.5,
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
    logits = logits.unflatten(-1, (4, BINS)).transpose(1, 2)  # [P, BINS, 4]
    loss = F.cross_entropy(logits, low, reduction="none") * (1 - share)
    return (loss + F.cross_entropy(logits, low + 1, reduction="none") * share).mean(-1)
