"""Random crop windows, compared with torchvision's."""

from __future__ import annotations

import pytest
import torch
from torchvision.transforms import v2
from torchvision.tv_tensors import BoundingBoxes

from detector.training.augmentation import sample_crop_window

HEIGHT, WIDTH = 96, 128


def test_crop_windows_match_torchvision() -> None:
    """In how often the image stays whole, and in the size of the windows."""
    boxes = torch.tensor([[10.0, 20.0, 70.0, 80.0], [90.0, 5.0, 110.0, 40.0]])
    reference = v2.RandomIoUCrop()
    inputs = [torch.zeros(3, HEIGHT, WIDTH), BoundingBoxes(boxes, format="XYXY", canvas_size=(HEIGHT, WIDTH))]
    torch.manual_seed(0)
    ours, others = [], []
    for _ in range(300):
        window, other = sample_crop_window(boxes, HEIGHT, WIDTH), reference.make_params(inputs)
        ours.append(1.0 if window is None else (window[2] - window[0]) / WIDTH)
        others.append(other["width"] / WIDTH if other else 1.0)
    assert abs(ours.count(1.0) - others.count(1.0)) < 45
    assert sum(ours) / 300 == pytest.approx(sum(others) / 300, abs=0.04)
