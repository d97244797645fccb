"""What data and models agree on: the shapes of a batch of targets and of a batch of detections."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Targets(NamedTuple):
    """Ground truth of a batch, padded to the fullest image (M may be 0).

    boxes_xyxy: float32 [B, M, 4], pixels of the model's input; zeros pad.
    labels: int64 [B, M], 1-based category ids; 0 pads.
    states: int64 [B, M], 1-based state ids; 0 is unknown or padding.
    """

    boxes_xyxy: Tensor
    labels: Tensor
    states: Tensor

    def to(self, device: torch.device) -> Targets:
        """The same on another device."""
        return Targets(*(part.to(device, non_blocking=True) for part in self))


class BatchDetections(NamedTuple):
    """Detections of a batch, best first, padded with zeros to a fixed N.

    boxes_xyxy: float32 [B, N, 4], pixels of the model's input.
    scores: float32 [B, N], 0 to 1.
    labels: int64 [B, N], 1-based category ids.
    states: int64 [B, N], 1-based state ids; 0 where the model has no state head.
    state_scores: float32 [B, N], 0 to 1, how sure it is of the state; 0 without a head.
    counts: int64 [B], how many of the N are detections.
    """

    boxes_xyxy: Tensor
    scores: Tensor
    labels: Tensor
    states: Tensor
    state_scores: Tensor
    counts: Tensor


class Output(NamedTuple):
    """What a detector's `forward(images, targets)` returns; images are uint8 [B, 3, H, W].

    losses: scalars by component, to be summed; empty when there are no targets.
    detections: in evaluation; None while training, where nobody looks at them.
    target_states: float [B, M, S], in evaluation with targets: what the state head alone says of each
    true box, as logits; None without a state head.
    """

    losses: dict[str, Tensor]
    detections: BatchDetections | None
    target_states: Tensor | None = None
