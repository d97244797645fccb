"""Random changes of a training image and its boxes, in uint8, with torchvision's transforms.

Every number is drawn from torch's generator. What is off draws none, so that switching one change on
leaves a training without it as it was.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torchvision import tv_tensors
from torchvision.ops import box_iou
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from detector.engine.dataset import Sample

# A box stays when at least this share of it is left in the picture, and it is this long (pixels).
VISIBLE_SHARE = 0.35
SHORTEST_SIDE = 2.0
MOSAIC_CENTRE = (0.25, 0.75)  # where the four images may meet, as a share of each side
# Of windows that crop to objects: limits of the IoU, shortest side as a share, most elongated, and how many are tried.
CROP_IOUS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)
CROP_SIDE, CROP_ASPECT, CROP_TRIALS = 0.3, 2.0, 40
MIXUP_BETA = 8.0  # of the Beta distribution that the ratio comes from: nearly always 0.3 to 0.7


def uniform(low: float, high: float) -> float:
    """A random number from torch's generator."""
    return low + (high - low) * float(torch.rand(()))


def chance(share: float) -> bool:
    """True in this share of the calls; 0 draws no number."""
    return share > 0 and uniform(0, 1) < share


@dataclass(frozen=True)
class Augment:
    """Flip, then one of mosaic, crop and zoom, then rotation, mixup and photometric distortion.

    flip: probability of a horizontal flip. zoom: smallest and largest enlargement; below 1 the picture
    shrinks and `fill` (RGB) surrounds it. distortion: how far brightness, contrast and saturation vary,
    as a share. mosaic, mixup, crop: share of the images that are put together from four, blended with
    another one, cut to a window that keeps objects. rotation: degrees at most, to either side. epochs: of
    the training; the last fifth has no mosaic, so that it ends with pictures as they are (Ge et al. 2021,
    YOLOX).
    """

    flip: float
    zoom: tuple[float, float]
    distortion: float
    fill: tuple[int, int, int]
    mosaic: float = 0.0
    mixup: float = 0.0
    crop: float = 0.0
    rotation: float = 0.0
    epochs: int = 1

    def __call__(self, sample: Sample, visit: int, other: Callable[[], Sample]) -> Sample:
        """A changed copy; boxes that leave the picture are dropped with their labels and states.

        visit: epoch + epochs * how often the image came in this epoch already. other: a random image of the
        dataset, unchanged.
        """
        mosaic_share = self.mosaic if 5 * (visit % self.epochs) < 4 * self.epochs else 0.0
        sample = self._moved(sample, mosaic_share, other)
        if chance(self.mixup):
            sample = mixup(sample, self._moved(other(), mosaic_share, other))
        if self.distortion > 0:
            jitter = v2.ColorJitter(self.distortion, self.distortion, self.distortion)
            sample = sample._replace(image=jitter(sample.image))
        return sample

    def _moved(self, sample: Sample, mosaic_share: float, other: Callable[[], Sample]) -> Sample:
        if chance(mosaic_share):
            four = [self._flipped(content_of(picture)) for picture in (sample, other(), other(), other())]
            height, width = sample.image.shape[-2:]
            sample = mosaic(four, uniform(*self.zoom), (height, width), self.fill)
        else:
            sample = self._flipped(sample)
            cropped = crop_to_objects(sample) if chance(self.crop) else None
            sample = zoom_window(sample, uniform(*self.zoom), self.fill) if cropped is None else cropped
        if self.rotation > 0:
            sample = rotate(sample, uniform(-self.rotation, self.rotation), self.fill)
        return sample

    def _flipped(self, sample: Sample) -> Sample:
        if uniform(0, 1) >= self.flip:
            return sample
        boxes, width = sample.boxes_xyxy, sample.image.shape[-1]
        mirrored = torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], dim=1)
        return sample._replace(image=F.horizontal_flip(sample.image), boxes_xyxy=mirrored)


def keep_visible(sample: Sample, image: Tensor, moved_xyxy: Tensor) -> Sample:
    """The sample as `image`, with those of the moved boxes [M, 4] that are still seen, clipped to it."""
    height, width = image.shape[-2:]
    limits = torch.tensor([width, height] * 2, dtype=moved_xyxy.dtype)
    clipped = torch.minimum(moved_xyxy.clamp(min=0), limits)
    size, left_over = moved_xyxy[:, 2:] - moved_xyxy[:, :2], clipped[:, 2:] - clipped[:, :2]
    seen = (left_over.prod(1) >= VISIBLE_SHARE * size.prod(1)) & (left_over.amin(1) >= SHORTEST_SIDE)
    return sample._replace(
        image=image, boxes_xyxy=clipped[seen], labels=sample.labels[seen], states=sample.states[seen]
    )


def content_of(sample: Sample) -> Sample:
    """The picture [3, h, w] without the padding to the right and below."""
    height, width = sample.content
    return sample._replace(image=sample.image[:, :height, :width])


def zoom_window(sample: Sample, zoom: float, fill: tuple[int, int, int]) -> Sample:
    """A window of 1/zoom of the picture's size at a random place, resized to the picture's size."""
    height, width = sample.image.shape[-2:]
    window_height, window_width = round(height / zoom), round(width / zoom)
    top = round(uniform(min(0, height - window_height), max(0, height - window_height)))
    left = round(uniform(min(0, width - window_width), max(0, width - window_width)))
    border = [
        max(0, -left),
        max(0, -top),
        max(0, left + window_width - width),
        max(0, top + window_height - height),
    ]
    image = sample.image
    if any(border):
        image = F.pad(image, border, fill=[float(value) for value in fill])
    image = F.resized_crop(
        image, max(0, top), max(0, left), window_height, window_width, [height, width], antialias=True
    )
    scale = torch.tensor([width / window_width, height / window_height] * 2)
    moved = (sample.boxes_xyxy - torch.tensor([left, top] * 2)) * scale
    return keep_visible(sample, image, moved)


def crop_to_objects(sample: Sample) -> Sample | None:
    """A window of `window_with_object`, resized to the picture's size; None where that is None."""
    height, width = sample.image.shape[-2:]
    window = window_with_object(sample.boxes_xyxy, height, width)
    if window is None:
        return None
    left, top, right, bottom = window
    image = F.resized_crop(sample.image, top, left, bottom - top, right - left, [height, width], antialias=True)
    scale = torch.tensor([width / (right - left), height / (bottom - top)] * 2)
    moved = (sample.boxes_xyxy - torch.tensor([left, top] * 2)) * scale
    return keep_visible(sample, image, moved)


def window_with_object(boxes_xyxy: Tensor, height: int, width: int) -> list[int] | None:
    """A window (xyxy) with the centre of an object whose IoU with it is above a random limit (Liu et al. 2016, SSD).

    None without objects, or where the draw is to leave the picture whole. As torchvision's RandomIoUCrop, which
    takes up to 30 ms where objects are small, since it makes its 40 trials one by one.
    """
    limit = torch.tensor([width, height])
    centres = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
    while len(boxes_xyxy):
        least = (*CROP_IOUS, None)[int(torch.randint(len(CROP_IOUS) + 1, ()))]
        if least is None:
            break
        size = limit * (CROP_SIDE + (1 - CROP_SIDE) * torch.rand(CROP_TRIALS, 2))
        corner = (limit - size) * torch.rand(CROP_TRIALS, 2)
        windows = torch.cat([corner, corner + size], 1).round()  # [T, 4]
        aspect = size[:, 0] / size[:, 1]
        inside = ((centres > windows[:, None, :2]) & (centres < windows[:, None, 2:])).all(2)  # [T, M]
        overlap = box_iou(windows, boxes_xyxy).masked_fill(~inside, -1.0).amax(1)
        good = (overlap >= least) & (aspect > 1 / CROP_ASPECT) & (aspect < CROP_ASPECT)
        if good.any():
            found: list[int] = windows[int(good.nonzero()[0, 0])].int().tolist()
            return found
    return None


def rotate(sample: Sample, degrees: float, fill: tuple[int, int, int]) -> Sample:
    """Turned counter-clockwise about the centre; a box becomes the bounds of its turned corners."""
    height, width = sample.image.shape[-2:]
    # What comes in from outside is 0, so 0 has to be the colour: with `fill` torchvision draws a dark seam.
    colour = torch.tensor(fill, dtype=torch.float32).reshape(3, 1, 1)
    image = F.rotate(sample.image - colour, degrees, v2.InterpolationMode.BILINEAR)
    image = (image + colour).round_().to(torch.uint8)
    turned, _ = F.rotate_bounding_boxes(
        sample.boxes_xyxy,
        tv_tensors.BoundingBoxFormat.XYXY,
        canvas_size=(height, width),
        angle=degrees,
        clamping_mode=None,  # how much of a box is left is to be known
    )
    return keep_visible(sample, image, turned)


def mosaic(four: list[Sample], zoom: float, size: tuple[int, int], fill: tuple[int, int, int]) -> Sample:
    """Four images that meet in a random point of a canvas of size / zoom, resized to `size` (H, W).

    Each lies with its corner at that point and shows what fits into its quarter (Bochkovskiy et al. 2020,
    YOLOv4); where it is too small, `fill` is seen.
    """
    height, width = round(size[0] / zoom), round(size[1] / zoom)
    across, down = round(uniform(*MOSAIC_CENTRE) * width), round(uniform(*MOSAIC_CENTRE) * height)
    canvas = torch.tensor(fill, dtype=torch.uint8).reshape(3, 1, 1).repeat(1, height, width)
    scale = torch.tensor([size[1] / width, size[0] / height] * 2)
    moved = []
    for quarter, sample in enumerate(four):
        high, wide = sample.image.shape[-2:]
        left = across if quarter % 2 else across - wide
        top = down if quarter // 2 else down - high
        x, right, y, bottom = max(left, 0), min(left + wide, width), max(top, 0), min(top + high, height)
        canvas[:, y:bottom, x:right] = sample.image[:, y - top : bottom - top, x - left : right - left]
        moved.append((sample.boxes_xyxy + torch.tensor([left, top] * 2)) * scale)
    image = F.resize(canvas, list(size), antialias=True)
    placed = [keep_visible(sample, image, boxes) for sample, boxes in zip(four, moved, strict=True)]
    return with_objects_of(placed[0], placed)


def mixup(first: Sample, second: Sample) -> Sample:
    """Both pictures through one another, in about equal parts, and the objects of both (Zhang et al. 2018).

    The boxes keep their full weight in the loss, as in YOLOX.
    """
    ratio = float(torch.distributions.Beta(MIXUP_BETA, MIXUP_BETA).sample())
    blended = torch.lerp(second.image.float(), first.image.float(), ratio).round_().to(torch.uint8)
    return with_objects_of(first._replace(image=blended), [first, second])


def with_objects_of(sample: Sample, others: list[Sample]) -> Sample:
    """The sample's picture with the boxes, labels and states of all others."""
    return sample._replace(
        boxes_xyxy=torch.cat([other.boxes_xyxy for other in others]),
        labels=torch.cat([other.labels for other in others]),
        states=torch.cat([other.states for other in others]),
    )
