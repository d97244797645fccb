"""Targets of images without padding."""

from __future__ import annotations

import torch
from torch import Tensor

from detector.engine.structures import Targets


def whole_image_targets(boxes_xyxy: Tensor, labels: Tensor, states: Tensor | None, size: tuple[int, int]) -> Targets:
    """Targets whose content is the whole input of `size` (H, W); `states=None`: all unknown."""
    states = torch.zeros_like(labels) if states is None else states
    return Targets(boxes_xyxy, labels, states, torch.tensor([size] * len(labels), dtype=torch.float32))


def no_targets(count: int, size: tuple[int, int], objects: int = 0) -> Targets:
    """Targets of `count` images without objects, padded to `objects`."""
    none = torch.zeros(count, objects, dtype=torch.int64)
    return whole_image_targets(torch.zeros(count, objects, 4), none, none, size)
