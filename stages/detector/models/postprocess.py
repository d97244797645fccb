"""Scores and boxes of all locations -> a fixed number of detections.

Fixed shapes let the same code serve validation, ONNX and the proposals of two-stage models, at any batch size. Only
NMS differs in an ONNX file: `exporting/nms.py` translates `exported_nms_mask` to the ONNX operator, which leads to the
same detections.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import nms

from detector.engine.structures import BatchDetections

# Candidates for NMS. In a crowd a dense head finds every object at many locations, and those of the clearest objects
# must not displace all the others.
CANDIDATES_PER_DETECTION = 20


@dataclass(frozen=True)
class Postprocess:
    """Selects the detections from a model's scores and boxes.

    score_threshold: detections below this score are dropped.
    nms_iou: NMS IoU threshold, per class.
    max_detections: N of the output; NMS gets CANDIDATES_PER_DETECTION times as many (location, class) pairs.
    """

    score_threshold: float = 0.01
    nms_iou: float = 0.6
    max_detections: int = 100

    def __call__(self, boxes_xyxy: Tensor, class_scores: Tensor, state_logits: Tensor | None = None) -> BatchDetections:
        """Boxes in pixels and scores [B, L, C] in 0..1 -> detections with N = max_detections.

        Boxes are [B, L, 4], or [B, L, C, 4] where each class has its own; state_logits [B, L, S].
        """
        candidates = self._top_candidates(boxes_xyxy, class_scores, CANDIDATES_PER_DETECTION * self.max_detections)
        groups = torch.where(candidates.scores > 0, candidates.labels, -1)
        keep = batched_nms_mask(candidates.boxes_xyxy, groups, self.nms_iou, self.max_detections)
        return select_detections(
            candidates._replace(scores=candidates.scores * keep), state_logits, self.max_detections
        )

    def select_without_nms(
        self, boxes_xyxy: Tensor, class_scores: Tensor, state_logits: Tensor | None = None
    ) -> BatchDetections:
        """The best (location, class) pairs as detections, for models that predict each object once."""
        candidates = self._top_candidates(boxes_xyxy, class_scores, self.max_detections)
        return select_detections(candidates, state_logits, self.max_detections)

    def _top_candidates(self, boxes_xyxy: Tensor, class_scores: Tensor, count: int) -> Candidates:
        """The `count` best (location, class) pairs, best first; scores below the threshold become 0."""
        _, locations, classes = class_scores.shape
        scores, flat = class_scores.flatten(1).topk(min(count, locations * classes))  # [B, K]
        location = torch.div(flat, classes, rounding_mode="floor")
        category = flat - location * classes  # [B, K]
        box = flat if boxes_xyxy.dim() == 4 else location  # [B, K]
        boxes = boxes_xyxy.reshape(boxes_xyxy.shape[0], -1, 4).gather(1, box[..., None].expand(-1, -1, 4))
        kept = scores * (scores > self.score_threshold)
        return Candidates(boxes, kept, category + 1, location)


class Candidates(NamedTuple):
    """K candidates per image: boxes_xyxy [B, K, 4], the others [B, K]; a score of 0 marks padding.

    locations: their indices in the model's state logits.
    """

    boxes_xyxy: Tensor
    scores: Tensor
    labels: Tensor
    locations: Tensor


def select_detections(candidates: Candidates, state_logits: Tensor | None, max_detections: int) -> BatchDetections:
    """The best `max_detections` candidates, padded with zeros; candidates with score 0 become zeros too.

    state_logits [B, L, S]: of all locations; None without a state head.
    """
    count = min(max_detections, candidates.scores.shape[1])
    scores, order = candidates.scores.topk(count)  # [B, N]
    real = scores > 0
    labels, locations = candidates.labels.gather(1, order), candidates.locations.gather(1, order)
    boxes_xyxy = candidates.boxes_xyxy.gather(1, order[..., None].expand(-1, -1, 4)) * real[..., None]
    states, state_scores = torch.zeros_like(labels), torch.zeros_like(scores)
    if state_logits is not None:
        wide = locations[..., None].expand(-1, -1, state_logits.shape[-1])
        state_scores, index = state_logits.gather(1, wide).softmax(-1).max(-1)  # [B, N]
        states = index + 1
    padding = (0, max_detections - count)
    labels, states, state_scores = (F.pad(column * real, padding) for column in (labels, states, state_scores))
    boxes_xyxy = F.pad(boxes_xyxy, (0, 0, *padding))
    return BatchDetections(boxes_xyxy, F.pad(scores, padding), labels, states, state_scores, real.sum(1))


def batched_nms_mask(boxes_xyxy: Tensor, groups: Tensor, iou_threshold: float, max_per_group: int) -> Tensor:
    """Which candidates [B, K], best first within each group, greedy NMS keeps within each group: bool [B, K].

    groups: int64, from 0; candidates of group -1 are padding and not kept. max_per_group: as many as the caller takes
    of a group; an ONNX file does not look for more, which takes less time.
    """
    if torch.compiler.is_exporting():
        keep: Tensor = exported_nms_mask(boxes_xyxy, groups, iou_threshold, max_per_group)
        return keep
    return greedy_nms_mask(boxes_xyxy, groups, iou_threshold)


def greedy_nms_mask(boxes_xyxy: Tensor, groups: Tensor, iou_threshold: float) -> Tensor:
    """`batched_nms_mask` by torchvision's operator, image by image.

    The boxes of each group are moved to a place of their own. In double precision this changes no IoU; autocast would
    convert them to single precision.
    """
    keep = torch.zeros_like(groups, dtype=torch.bool)
    with torch.autocast(boxes_xyxy.device.type, enabled=False):
        for image, (boxes, group) in enumerate(zip(boxes_xyxy.double(), groups, strict=True)):
            candidates = (group >= 0).nonzero()[:, 0]
            shift = group[candidates] * (boxes.max() - boxes.min() + 1)
            # The scores only define the order, which is that of the list.
            kept = nms(boxes[candidates] + shift[:, None], -candidates.double(), iou_threshold)
            keep[image, candidates[kept]] = True
    return keep


@torch.library.custom_op("detector::nms_mask", mutates_args=())
def exported_nms_mask(boxes_xyxy: Tensor, groups: Tensor, iou_threshold: float, max_per_group: int) -> Tensor:
    """`batched_nms_mask` as one operator, which the export replaces by the ONNX operator."""
    return greedy_nms_mask(boxes_xyxy, groups, iou_threshold)


@exported_nms_mask.register_fake
def _(boxes_xyxy: Tensor, groups: Tensor, iou_threshold: float, max_per_group: int) -> Tensor:
    return torch.empty_like(groups, dtype=torch.bool)


def box_iou_xyxy(first_xyxy: Tensor, second_xyxy: Tensor) -> Tensor:
    """IoU of every pair: [B, N, 4] and [B, M, 4] -> [B, N, M]; 0 for empty boxes."""
    # Coordinate by coordinate: a last axis of length two would prevent vectorization.
    left, top, right, bottom = first_xyxy[:, :, None].unbind(-1)
    other_left, other_top, other_right, other_bottom = second_xyxy[:, None].unbind(-1)
    width = (torch.minimum(right, other_right) - torch.maximum(left, other_left)).clamp(min=0)
    height = (torch.minimum(bottom, other_bottom) - torch.maximum(top, other_top)).clamp(min=0)
    intersection = width * height
    union = box_area_xyxy(first_xyxy)[:, :, None] + box_area_xyxy(second_xyxy)[:, None] - intersection
    return intersection / union.clamp(min=1e-9)


def box_area_xyxy(boxes_xyxy: Tensor) -> Tensor:
    """Areas [...] of boxes [..., 4]."""
    size = (boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]).clamp(min=0)
    return size[..., 0] * size[..., 1]
