"""Scores and boxes of every location -> a fixed number of detections, without a data-dependent shape.

Because no shape depends on the data, the same code serves validation, ONNX and a two-stage model's
proposals, for any batch size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from detector.contract import Detections

# Longest chain of "A removes B, so B no longer removes C, ..." that is followed. Chains on real
# images end after about 3; the loop is unrolled so that ONNX computes exactly what PyTorch does.
NMS_ITERATIONS = 12


@dataclass(frozen=True)
class Postprocess:
    """How detections are picked.

    score_threshold: candidates below it are dropped.
    iou_threshold: of two boxes of one class that overlap more, the lower score is dropped.
    candidates: how many best (location, class) pairs an image brings to NMS.
    max_detections: N of the output.
    """

    score_threshold: float = 0.01
    iou_threshold: float = 0.6
    candidates: int = 300
    max_detections: int = 100

    def __call__(self, boxes_xyxy: Tensor, class_scores: Tensor) -> Detections:
        """Boxes in pixels and scores [B, L, C] in 0..1 -> detections with N = max_detections.

        Boxes are [B, L, 4], or [B, L, C, 4] where each class has its own.
        """
        _, locations, classes = class_scores.shape
        candidates = min(self.candidates, locations * classes)
        scores, flat = class_scores.flatten(1).topk(candidates)  # [B, K]
        location = torch.div(flat, classes, rounding_mode="floor")
        category = flat - location * classes  # [B, K]
        box = flat if boxes_xyxy.dim() == 4 else location  # [B, K]
        boxes = boxes_xyxy.reshape(boxes_xyxy.shape[0], -1, 4).gather(1, box[..., None].expand(-1, -1, 4))
        keep = batched_nms_mask(boxes, category, self.iou_threshold)
        return select(boxes, scores * (keep & (scores > self.score_threshold)), category + 1, self.max_detections)


def select(boxes_xyxy: Tensor, scores: Tensor, labels: Tensor, max_detections: int) -> Detections:
    """The best `max_detections` of candidates [B, K]; those with score 0 become zero padding."""
    picked = min(max_detections, scores.shape[1])
    scores, order = scores.topk(picked)  # [B, N]
    real = scores > 0
    boxes_xyxy = boxes_xyxy.gather(1, order[..., None].expand(-1, -1, 4)) * real[..., None]
    labels = labels.gather(1, order) * real
    missing = max_detections - picked
    if missing > 0:
        boxes_xyxy = torch.nn.functional.pad(boxes_xyxy, (0, 0, 0, missing))
        scores = torch.nn.functional.pad(scores, (0, missing))
        labels = torch.nn.functional.pad(labels, (0, missing))
    return Detections(boxes_xyxy, scores, labels, torch.zeros_like(labels), real.sum(1))


def batched_nms_mask(boxes_xyxy: Tensor, groups: Tensor, iou_threshold: float) -> Tensor:
    """Which of the candidates [B, K], sorted by score, greedy NMS keeps within each group: bool [B, K].

    Cluster-NMS (Zheng et al. 2020, "Enhancing Geometric Factors in Model Learning and Inference"):
    greedy NMS as repeated masked matrix products, which reach its result after as many iterations as
    the longest chain of suppressions.
    """
    overlap = pairwise_iou_xyxy(boxes_xyxy, boxes_xyxy) > iou_threshold  # [B, K, K]
    same_group = groups[:, :, None] == groups[:, None, :]
    suppresses = torch.triu((overlap & same_group).to(boxes_xyxy.dtype), diagonal=1)
    keep = torch.ones_like(boxes_xyxy[..., 0])  # [B, K]
    for _ in range(NMS_ITERATIONS):
        suppressed = torch.matmul(keep[:, None, :], suppresses)[:, 0]  # [B, K]
        keep = (suppressed < 0.5).to(boxes_xyxy.dtype)
    return keep > 0.5


def pairwise_iou_xyxy(first_xyxy: Tensor, second_xyxy: Tensor) -> Tensor:
    """Intersection over union of every pair: [B, N, 4] and [B, M, 4] -> [B, N, M]; 0 for empty boxes."""
    first, second = first_xyxy[:, :, None, :], second_xyxy[:, None, :, :]
    size = (torch.minimum(first[..., 2:], second[..., 2:]) - torch.maximum(first[..., :2], second[..., :2])).clamp(
        min=0
    )
    intersection = size[..., 0] * size[..., 1]
    union = area_xyxy(first) + area_xyxy(second) - intersection
    return intersection / union.clamp(min=1e-9)


def area_xyxy(boxes_xyxy: Tensor) -> Tensor:
    """Areas [...] of boxes [..., 4]."""
    size = (boxes_xyxy[..., 2:] - boxes_xyxy[..., :2]).clamp(min=0)
    return size[..., 0] * size[..., 1]
