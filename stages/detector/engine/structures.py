"""The interface between data and models: batches of targets and batches of detections."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Targets(NamedTuple):
    """Ground truth of a batch, padded to the image with the most objects (M may be 0), and the size of its images.

    boxes_xyxy: float32 [B, M, 4], in pixels of the model's input; padding is 0.
    labels: int64 [B, M], category ids from 1; padding is 0.
    states: int64 [B, M], state ids from 1; unknown and padding are 0.
    content: float32 [B, 2], height and width in pixels of each image at the top left of its input; the rest is
    padding.
    """

    boxes_xyxy: Tensor
    labels: Tensor
    states: Tensor
    content: Tensor

    def to(self, device: torch.device) -> Targets:
        """Copy the targets to `device`."""
        return Targets(*(part.to(device, non_blocking=True) for part in self))


class BatchDetections(NamedTuple):
    """Detections of a batch, best first, padded with zeros to a fixed N.

    boxes_xyxy: float32 [B, N, 4], in pixels of the model's input.
    scores: float32 [B, N], 0..1.
    labels: int64 [B, N], category ids from 1.
    states: int64 [B, N], state ids from 1; 0 without a state head.
    state_scores: float32 [B, N], 0..1, the probability of the state; 0 without a state head.
    counts: int64 [B], number of detections per image; the rest is padding.
    """

    boxes_xyxy: Tensor
    scores: Tensor
    labels: Tensor
    states: Tensor
    state_scores: Tensor
    counts: Tensor


class Output(NamedTuple):
    """What a detector's `forward(images, targets)` returns; images are uint8 [B, 3, H, W].

    losses: scalars by component (`loss_cls`, ...), whose sum is the training loss; empty without targets.
    detections: in evaluation mode; None in training.
    target_states: float [B, M, S], the state head's logits for each ground-truth box, in evaluation mode with
    targets; None without a state head.
    """

    losses: dict[str, Tensor]
    detections: BatchDetections | None
    target_states: Tensor | None = None
