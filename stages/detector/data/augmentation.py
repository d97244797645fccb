"""Random changes of a training image and its boxes, in uint8, with torchvision's transforms."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from detector.data.dataset import Sample

# A box stays when at least this share of it is left in the picture, and it is this long (pixels).
VISIBLE_SHARE = 0.35
SHORTEST_SIDE = 2.0


def uniform(low: float, high: float) -> float:
    """A random number from torch's generator."""
    return low + (high - low) * float(torch.rand(()))


@dataclass(frozen=True)
class Augment:
    """Flip, zoom with a random window, and photometric distortion.

    flip: probability of a horizontal flip. zoom: smallest and largest enlargement; below 1 the picture
    shrinks and `fill` (RGB) surrounds it. distortion: how far brightness, contrast and saturation vary,
    as a share.
    """

    flip: float
    zoom: tuple[float, float]
    distortion: float
    fill: tuple[int, int, int]

    def __call__(self, sample: Sample) -> Sample:
        """A changed copy; boxes that leave the picture are dropped with their labels and states."""
        image, boxes = sample.image, sample.boxes_xyxy
        if uniform(0, 1) < self.flip:
            width = image.shape[-1]
            image = F.horizontal_flip(image)
            boxes = torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], dim=1)
        image, boxes, seen = zoom_window(image, boxes, uniform(*self.zoom), self.fill)
        if self.distortion > 0:
            image = v2.ColorJitter(self.distortion, self.distortion, self.distortion)(image)
        return sample._replace(
            image=image, boxes_xyxy=boxes[seen], labels=sample.labels[seen], states=sample.states[seen]
        )


def zoom_window(
    image: Tensor, boxes_xyxy: Tensor, zoom: float, fill: tuple[int, int, int]
) -> tuple[Tensor, Tensor, Tensor]:
    """A window of 1/zoom of the picture's size at a random place, resized to the picture's size.

    Returns the image [3, H, W], all boxes [M, 4] clipped to it, and which of them are still seen [M].
    """
    height, width = image.shape[-2:]
    window_height, window_width = round(height / zoom), round(width / zoom)
    top = round(uniform(min(0, height - window_height), max(0, height - window_height)))
    left = round(uniform(min(0, width - window_width), max(0, width - window_width)))
    border = [
        max(0, -left),
        max(0, -top),
        max(0, left + window_width - width),
        max(0, top + window_height - height),
    ]
    if any(border):
        image = F.pad(image, border, fill=[float(value) for value in fill])
    image = F.resized_crop(
        image, max(0, top), max(0, left), window_height, window_width, [height, width], antialias=True
    )
    scale = torch.tensor([width / window_width, height / window_height] * 2)
    moved = (boxes_xyxy - torch.tensor([left, top] * 2)) * scale
    limits = torch.tensor([width, height] * 2, dtype=moved.dtype)
    clipped = torch.minimum(moved.clamp(min=0), limits)
    size, left_over = moved[:, 2:] - moved[:, :2], clipped[:, 2:] - clipped[:, :2]
    seen = (left_over.prod(1) >= VISIBLE_SHARE * size.prod(1)) & (left_over.amin(1) >= SHORTEST_SIDE)
    return image, clipped, seen
