"""The loss of the dense head: class, CIoU, distribution focal and state loss."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import complete_box_iou_loss

from detector.engine.distributed import loss_normalizer
from detector.engine.structures import Targets
from detector.models.assignment import assign_task_aligned
from detector.models.dense_head import BINS, DenseOutputs, decode_box_logits, flatten_levels
from detector.models.state_head import StateHead, box_loss_mask

CLASS_WEIGHT, CIOU_WEIGHT, DFL_WEIGHT = 0.5, 7.5, 1.5  # as in YOLOv8


def dense_loss(
    outputs: DenseOutputs, centers: Tensor, strides: Tensor, targets: Targets, states: StateHead | None
) -> dict[str, Tensor]:
    """Scalars `loss_cls`, `loss_ciou`, `loss_dfl` and, with a state head, `loss_state`, to be summed.

    centers [L, 2] and strides [L] in pixels. The class target is the assignment quality, so a score predicts how
    well its box fits. All but `loss_state` are divided by the sum of qualities.
    """
    boxes = decode_box_logits(outputs.boxes, centers, strides)
    assignment = assign_task_aligned(boxes.detach(), outputs.classes.detach().sigmoid(), centers, targets)
    total = loss_normalizer(assignment.quality.sum())
    class_targets = _make_class_targets(assignment.quality, assignment.box_index, targets, outputs.classes)
    class_loss = F.binary_cross_entropy_with_logits(outputs.classes, class_targets, reduction="sum")
    image, location = (assignment.quality > 0).nonzero(as_tuple=True)  # [P]
    owner = assignment.box_index[image, location]  # [P]
    losses = {"loss_cls": class_loss / total * CLASS_WEIGHT}
    true_states = targets.states[image, owner]
    if states is not None:  # only at the P assigned locations, hundreds of times fewer than all
        features = flatten_levels(outputs.class_features)[image, location]  # [P, K]
        losses["loss_state"] = states.loss(states(features), true_states)
    if len(image) == 0:
        zero = outputs.boxes.sum() * 0
        return losses | {"loss_ciou": zero, "loss_dfl": zero}
    weight = assignment.quality[image, location] * box_loss_mask(states, true_states)  # [P]
    true_boxes = targets.boxes_xyxy[image, owner]  # [P, 4]
    ciou = complete_box_iou_loss(boxes[image, location], true_boxes)
    dfl = _distribution_focal_loss(outputs.boxes[image, location], true_boxes, centers[location], strides[location])
    return losses | {
        "loss_ciou": (ciou * weight).sum() / total * CIOU_WEIGHT,
        "loss_dfl": (dfl * weight).sum() / total * DFL_WEIGHT,
    }


def _make_class_targets(quality: Tensor, box_index: Tensor, targets: Targets, like: Tensor) -> Tensor:
    class_targets = torch.zeros_like(like)
    if targets.labels.shape[1] == 0:
        return class_targets
    category = (targets.labels.gather(1, box_index) - 1).clamp(min=0)  # [B, L]
    return class_targets.scatter_(2, category[..., None], quality[..., None].to(like.dtype))


def _distribution_focal_loss(logits: Tensor, boxes_xyxy: Tensor, centers: Tensor, strides: Tensor) -> Tensor:
    """Distribution focal loss [P]: cross-entropy with the two bins around each true distance."""
    distances = torch.cat([centers - boxes_xyxy[:, :2], boxes_xyxy[:, 2:] - centers], dim=-1)  # [P, 4]
    distances = (distances / strides[:, None]).clamp(0, BINS - 1 - 0.01)
    low = distances.long()
    fraction = distances - low
    low, fraction = low.flatten(), fraction.flatten()  # [P * 4]: flat, to be deterministic on a GPU
    logits = logits.reshape(-1, BINS)  # [P * 4, BINS]
    loss = F.cross_entropy(logits, low, reduction="none") * (1 - fraction)
    loss = loss + F.cross_entropy(logits, low + 1, reduction="none") * fraction
    box_loss: Tensor = loss.unflatten(0, (-1, 4)).mean(-1)
    return box_loss
