"""Random augmentation of training images and their boxes, in uint8, with torchvision's transforms.

All random numbers come from torch's generator. A disabled augmentation draws none, so adding a new one does not
change trainings that leave it disabled.
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

# A box is kept if at least this fraction of its area stays visible, with sides of at least this length (pixels).
MIN_VISIBLE_FRACTION = 0.35
MIN_SIDE = 2.0
MOSAIC_CENTER = (0.25, 0.75)  # range of the point where the four images meet, as fractions of each side
# Crop windows: candidate IoU limits, shortest side as a fraction, largest aspect ratio, and windows per attempt.
CROP_IOUS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)
MIN_CROP_SIDE, MAX_CROP_ASPECT, CROP_TRIALS = 0.3, 2.0, 40
MIXUP_BETA = 8.0  # parameter of the Beta distribution of the mixing ratio, which is mostly within 0.3 to 0.7


def sample_uniform(low: float, high: float) -> float:
    """Draw a random number in [low, high) from torch's generator."""
    return low + (high - low) * float(torch.rand(()))


def random_bool(probability: float) -> bool:
    """Return True with this probability; 0 draws no random number."""
    return probability > 0 and sample_uniform(0, 1) < probability


@dataclass(frozen=True)
class Augmenter:
    """Flip, then one of mosaic, crop and scaling, then rotation, mixup and color jitter.

    flip: probability of a horizontal flip. scale: range of the random scale; below 1 the image shrinks and is
    surrounded by `fill` (RGB). color_jitter: max relative change of brightness, contrast and saturation. mosaic,
    mixup, crop: fractions of images that are combined from four, blended with another one, or cropped to a window
    around objects. rotation: max degrees in both directions. epochs: length of the training; its last fifth has no
    mosaic, so it ends on natural images (Ge et al. 2021, YOLOX).
    """

    flip: float
    scale: tuple[float, float]
    color_jitter: float
    fill: tuple[int, int, int]
    mosaic: float = 0.0
    mixup: float = 0.0
    crop: float = 0.0
    rotation: float = 0.0
    epochs: int = 1

    def __call__(self, sample: Sample, visit: int, draw_other: Callable[[], Sample]) -> Sample:
        """Return an augmented copy; boxes that leave the image are dropped with their labels and states.

        visit: epoch + epochs * how often the image already occurred in this epoch. draw_other: returns a random,
        unaugmented image of the dataset.
        """
        mosaic_probability = self.mosaic if 5 * (visit % self.epochs) < 4 * self.epochs else 0.0
        sample = self._transform(sample, mosaic_probability, draw_other)
        if random_bool(self.mixup):
            sample = mixup(sample, self._transform(draw_other(), mosaic_probability, draw_other))
        if self.color_jitter > 0:
            jitter = v2.ColorJitter(self.color_jitter, self.color_jitter, self.color_jitter)
            sample = sample._replace(image=jitter(sample.image))
        return sample

    def _transform(self, sample: Sample, mosaic_probability: float, draw_other: Callable[[], Sample]) -> Sample:
        """Apply everything but mixup and color jitter."""
        if random_bool(mosaic_probability):
            four = [
                self._random_flip(remove_padding(image)) for image in (sample, draw_other(), draw_other(), draw_other())
            ]
            height, width = sample.image.shape[-2:]
            sample = mosaic(four, sample_uniform(*self.scale), (height, width), self.fill)
        else:
            sample = self._random_flip(sample)
            cropped = crop_around_objects(sample) if random_bool(self.crop) else None
            sample = random_window(sample, sample_uniform(*self.scale), self.fill) if cropped is None else cropped
        if self.rotation > 0:
            sample = rotate(sample, sample_uniform(-self.rotation, self.rotation), self.fill)
        return sample

    def _random_flip(self, sample: Sample) -> Sample:
        if sample_uniform(0, 1) >= self.flip:
            return sample
        boxes, width = sample.boxes_xyxy, sample.image.shape[-1]
        flipped = torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], dim=1)
        return sample._replace(image=F.horizontal_flip(sample.image), boxes_xyxy=flipped)


def keep_visible(sample: Sample, image: Tensor, moved_xyxy: Tensor) -> Sample:
    """Return the sample with `image` and the moved boxes [M, 4] that are still visible in it, clipped to it."""
    height, width = image.shape[-2:]
    limits = torch.tensor([width, height] * 2, dtype=moved_xyxy.dtype)
    clipped = torch.minimum(moved_xyxy.clamp(min=0), limits)
    size, visible = moved_xyxy[:, 2:] - moved_xyxy[:, :2], clipped[:, 2:] - clipped[:, :2]
    kept = (visible.prod(1) >= MIN_VISIBLE_FRACTION * size.prod(1)) & (visible.amin(1) >= MIN_SIDE)
    return sample._replace(
        image=image, boxes_xyxy=clipped[kept], labels=sample.labels[kept], states=sample.states[kept]
    )


def remove_padding(sample: Sample) -> Sample:
    """Crop the image to [3, h, w], without the padding on the right and below."""
    height, width = sample.content
    return sample._replace(image=sample.image[:, :height, :width])


def random_window(sample: Sample, scale: float, fill: tuple[int, int, int]) -> Sample:
    """Take a window of 1/scale of the image's size at a random place and resize it to the image's size."""
    height, width = sample.image.shape[-2:]
    window_height, window_width = round(height / scale), round(width / scale)
    top = round(sample_uniform(min(0, height - window_height), max(0, height - window_height)))
    left = round(sample_uniform(min(0, width - window_width), max(0, width - window_width)))
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
    factors = torch.tensor([width / window_width, height / window_height] * 2)
    moved = (sample.boxes_xyxy - torch.tensor([left, top] * 2)) * factors
    return keep_visible(sample, image, moved)


def crop_around_objects(sample: Sample) -> Sample | None:
    """Crop to a window of `sample_crop_window` and resize it to the image's size; None without a window."""
    height, width = sample.image.shape[-2:]
    window = sample_crop_window(sample.boxes_xyxy, height, width)
    if window is None:
        return None
    left, top, right, bottom = window
    image = F.resized_crop(sample.image, top, left, bottom - top, right - left, [height, width], antialias=True)
    factors = torch.tensor([width / (right - left), height / (bottom - top)] * 2)
    moved = (sample.boxes_xyxy - torch.tensor([left, top] * 2)) * factors
    return keep_visible(sample, image, moved)


def sample_crop_window(boxes_xyxy: Tensor, height: int, width: int) -> list[int] | None:
    """Draw a window (xyxy) around an object's center, with an IoU above a random limit (Liu et al. 2016, SSD).

    None without objects, or when the draw is to keep the whole image. Equivalent to torchvision's RandomIoUCrop,
    which takes up to 30 ms on small objects because it makes its 40 trials one by one.
    """
    image_size = torch.tensor([width, height])
    centers = (boxes_xyxy[:, :2] + boxes_xyxy[:, 2:]) / 2
    while len(boxes_xyxy):
        min_iou = (*CROP_IOUS, None)[int(torch.randint(len(CROP_IOUS) + 1, ()))]
        if min_iou is None:
            break
        size = image_size * (MIN_CROP_SIDE + (1 - MIN_CROP_SIDE) * torch.rand(CROP_TRIALS, 2))
        corner = (image_size - size) * torch.rand(CROP_TRIALS, 2)
        windows = torch.cat([corner, corner + size], 1).round()  # [T, 4]
        aspect = size[:, 0] / size[:, 1]
        inside = ((centers > windows[:, None, :2]) & (centers < windows[:, None, 2:])).all(2)  # [T, M]
        iou = box_iou(windows, boxes_xyxy).masked_fill(~inside, -1.0).amax(1)
        valid = (iou >= min_iou) & (aspect > 1 / MAX_CROP_ASPECT) & (aspect < MAX_CROP_ASPECT)
        if valid.any():
            window: list[int] = windows[int(valid.nonzero()[0, 0])].int().tolist()
            return window
    return None


def rotate(sample: Sample, degrees: float, fill: tuple[int, int, int]) -> Sample:
    """Rotate counterclockwise around the center; a box becomes the bounding box of its rotated corners."""
    height, width = sample.image.shape[-2:]
    # Pixels from outside are 0, so the image is shifted by the fill color: torchvision's `fill` leaves a dark seam.
    color = torch.tensor(fill, dtype=torch.float32).reshape(3, 1, 1)
    image = F.rotate(sample.image - color, degrees, v2.InterpolationMode.BILINEAR)
    image = (image + color).round_().to(torch.uint8)
    rotated, _ = F.rotate_bounding_boxes(
        sample.boxes_xyxy,
        tv_tensors.BoundingBoxFormat.XYXY,
        canvas_size=(height, width),
        angle=degrees,
        clamping_mode=None,  # keep_visible needs the unclipped boxes
    )
    return keep_visible(sample, image, rotated)


def mosaic(four: list[Sample], scale: float, size: tuple[int, int], fill: tuple[int, int, int]) -> Sample:
    """Combine four images that meet at a random point of a canvas of size / scale, resized to `size` (H, W).

    Each image has a corner at that point and is cropped to its quarter (Bochkovskiy et al. 2020, YOLOv4); the
    rest of a quarter is `fill`.
    """
    height, width = round(size[0] / scale), round(size[1] / scale)
    center_x, center_y = round(sample_uniform(*MOSAIC_CENTER) * width), round(sample_uniform(*MOSAIC_CENTER) * height)
    canvas = torch.tensor(fill, dtype=torch.uint8).reshape(3, 1, 1).repeat(1, height, width)
    factors = torch.tensor([size[1] / width, size[0] / height] * 2)
    moved = []
    for quarter, sample in enumerate(four):
        image_height, image_width = sample.image.shape[-2:]
        left = center_x if quarter % 2 else center_x - image_width
        top = center_y if quarter // 2 else center_y - image_height
        x, right = max(left, 0), min(left + image_width, width)
        y, bottom = max(top, 0), min(top + image_height, height)
        canvas[:, y:bottom, x:right] = sample.image[:, y - top : bottom - top, x - left : right - left]
        moved.append((sample.boxes_xyxy + torch.tensor([left, top] * 2)) * factors)
    image = F.resize(canvas, list(size), antialias=True)
    placed = [keep_visible(sample, image, boxes) for sample, boxes in zip(four, moved, strict=True)]
    return merge_objects(placed[0], placed)


def mixup(first: Sample, second: Sample) -> Sample:
    """Blend two images in about equal parts and keep the objects of both (Zhang et al. 2018).

    All boxes keep their full weight in the loss, as in YOLOX.
    """
    ratio = float(torch.distributions.Beta(MIXUP_BETA, MIXUP_BETA).sample())
    blended = torch.lerp(second.image.float(), first.image.float(), ratio).round_().to(torch.uint8)
    return merge_objects(first._replace(image=blended), [first, second])


def merge_objects(sample: Sample, others: list[Sample]) -> Sample:
    """Return the image of `sample` with the boxes, labels and states of all `others`."""
    return sample._replace(
        boxes_xyxy=torch.cat([other.boxes_xyxy for other in others]),
        labels=torch.cat([other.labels for other in others]),
        states=torch.cat([other.states for other in others]),
    )
