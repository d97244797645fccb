"""Random augmentation of training images and their boxes, in uint8, with torchvision's transforms.

Only the content of a letterboxed image is augmented, without its padding, and padded again: the padding has the color
`fill` exactly and stays on the right and below, as in every image that is not augmented.

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

Window = tuple[int, int, int, int]  # left, top, right, bottom in pixels of an image's content; may reach beyond it


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
    surrounded by `fill` (RGB), which then counts as content. color_jitter: max relative change of brightness, contrast
    and saturation. mosaic, mixup, crop: fractions of images that are combined from four, blended with another one, or
    cropped to a window around objects. rotation: max degrees in both directions. epochs: length of the training; its
    last fifth has no mosaic, so it ends on natural images (Ge et al. 2021, YOLOX).
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
        """Return an augmented copy; boxes that leave the content are dropped with their labels and states.

        The content keeps its size; a mosaic fills the whole input, and a blend is as large as the larger of both.
        visit: epoch + epochs * how often the image already occurred in this epoch. draw_other: returns a random,
        unaugmented image of the dataset.
        """
        size, mosaic_probability = (sample.image.shape[-2], sample.image.shape[-1]), self.mosaic_probability(visit)
        sample = self._transform(sample, mosaic_probability, draw_other)
        if random_bool(self.mixup):
            other = self._transform(draw_other(), mosaic_probability, draw_other)
            sample = mixup(sample, other, draw_mixup_ratio(), self.fill)
        if self.color_jitter > 0:
            jitter = v2.ColorJitter(self.color_jitter, self.color_jitter, self.color_jitter)
            sample = sample._replace(image=jitter(sample.image))
        return add_padding(sample, size, self.fill)

    def mosaic_probability(self, visit: int) -> float:
        """The fraction of mosaics at this visit of an image; see `epochs`."""
        return self.mosaic if 5 * (visit % self.epochs) < 4 * self.epochs else 0.0

    def _transform(self, sample: Sample, mosaic_probability: float, draw_other: Callable[[], Sample]) -> Sample:
        """Apply everything but mixup and color jitter; the result has no padding."""
        if random_bool(mosaic_probability):
            four = [
                self._random_flip(remove_padding(image)) for image in (sample, draw_other(), draw_other(), draw_other())
            ]
            height, width = sample.image.shape[-2:]
            sample = mosaic(four, sample_uniform(*self.scale), (height, width), self.fill)
        else:
            sample = self._random_flip(remove_padding(sample))
            cropped = crop_around_objects(sample) if random_bool(self.crop) else None
            sample = random_window(sample, sample_uniform(*self.scale), self.fill) if cropped is None else cropped
        if self.rotation > 0:
            sample = rotate(sample, sample_uniform(-self.rotation, self.rotation), self.fill)
        return sample

    def _random_flip(self, sample: Sample) -> Sample:
        return flip(sample) if sample_uniform(0, 1) < self.flip else sample


# Each of the following functions takes and returns images without padding, unless it says otherwise.


def flip(sample: Sample) -> Sample:
    """Mirror the image horizontally."""
    return sample._replace(
        image=F.horizontal_flip(sample.image), boxes_xyxy=flip_boxes(sample.boxes_xyxy, sample.image.shape[-1])
    )


def flip_boxes(boxes_xyxy: Tensor, width: int) -> Tensor:
    """Mirror boxes [M, 4] in an image of this width."""
    return torch.stack([width - boxes_xyxy[:, 2], boxes_xyxy[:, 1], width - boxes_xyxy[:, 0], boxes_xyxy[:, 3]], dim=1)


def keep_visible(sample: Sample, moved_xyxy: Tensor, content: tuple[int, int]) -> Sample:
    """Return the sample with the moved boxes [M, 4] that are still visible in `content` (H, W), clipped to it."""
    height, width = content
    limits = torch.tensor([width, height] * 2, dtype=moved_xyxy.dtype)
    clipped = torch.minimum(moved_xyxy.clamp(min=0), limits)
    size, visible = moved_xyxy[:, 2:] - moved_xyxy[:, :2], clipped[:, 2:] - clipped[:, :2]
    kept = (visible.prod(1) >= MIN_VISIBLE_FRACTION * size.prod(1)) & (visible.amin(1) >= MIN_SIDE)
    return sample._replace(
        boxes_xyxy=clipped[kept], labels=sample.labels[kept], states=sample.states[kept], content=content
    )


def remove_padding(sample: Sample) -> Sample:
    """Crop the image to [3, h, w], without the padding on the right and below."""
    height, width = sample.content
    return sample._replace(image=sample.image[:, :height, :width])


def add_padding(sample: Sample, size: tuple[int, int], fill: tuple[int, int, int]) -> Sample:
    """Pad an image of at most `size` (H, W) to it, on the right and below."""
    height, width = sample.image.shape[-2:]
    if (height, width) == size:
        return sample
    canvas = torch.tensor(fill, dtype=torch.uint8).reshape(3, 1, 1).repeat(1, *size)
    canvas[:, :height, :width] = sample.image
    return sample._replace(image=canvas)


def random_window(sample: Sample, scale: float, fill: tuple[int, int, int]) -> Sample:
    """Take a window of 1/scale of the image's size at a random place and resize it to the image's size."""
    height, width = sample.content
    window = left, top, right, bottom = sample_window((height, width), scale)
    border = [max(0, -left), max(0, -top), max(0, right - width), max(0, bottom - height)]
    image = sample.image
    if any(border):
        image = F.pad(image, border, fill=[float(value) for value in fill])
    image = F.resized_crop(
        image, max(0, top), max(0, left), bottom - top, right - left, [height, width], antialias=True
    )
    return keep_visible(sample._replace(image=image), move_to_window(sample, window, (height, width)), (height, width))


def sample_window(content: tuple[int, int], scale: float) -> Window:
    """Draw a window of 1/scale of the content (H, W): inside of it, or around it if the window is the larger one."""
    height, width = content
    window_height, window_width = max(1, round(height / scale)), max(1, round(width / scale))
    top = round(sample_uniform(min(0, height - window_height), max(0, height - window_height)))
    left = round(sample_uniform(min(0, width - window_width), max(0, width - window_width)))
    return left, top, left + window_width, top + window_height


def move_to_window(sample: Sample, window: Window, size: tuple[int, int]) -> Tensor:
    """Boxes [M, 4] of the sample after its window is resized to `size` (H, W)."""
    left, top, right, bottom = window
    factors = torch.tensor([size[1] / (right - left), size[0] / (bottom - top)] * 2)
    return (sample.boxes_xyxy - torch.tensor([left, top] * 2)) * factors


def crop_around_objects(sample: Sample) -> Sample | None:
    """Crop to a window of `sample_crop_window` and resize it to the image's size; None without a window."""
    height, width = sample.content
    window = sample_crop_window(sample.boxes_xyxy, height, width)
    if window is None:
        return None
    left, top, right, bottom = window
    image = F.resized_crop(sample.image, top, left, bottom - top, right - left, [height, width], antialias=True)
    return keep_visible(sample._replace(image=image), move_to_window(sample, window, (height, width)), (height, width))


def sample_crop_window(boxes_xyxy: Tensor, height: int, width: int) -> Window | None:
    """Draw a window around an object's center, with an IoU above a random limit (Liu et al. 2016, SSD).

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
            left, top, right, bottom = windows[int(valid.nonzero()[0, 0])].int().tolist()
            return left, top, right, bottom
    return None


def rotate(sample: Sample, degrees: float, fill: tuple[int, int, int]) -> Sample:
    """Rotate counterclockwise around the center; a box becomes the bounding box of its rotated corners."""
    height, width = sample.content
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
    return keep_visible(sample._replace(image=image), rotated, (height, width))


def mosaic(four: list[Sample], scale: float, size: tuple[int, int], fill: tuple[int, int, int]) -> Sample:
    """Combine four images that meet at a random point of a canvas of size / scale, resized to `size` (H, W).

    Each image has a corner at that point and is cropped to its quarter (Bochkovskiy et al. 2020, YOLOv4); the
    rest of a quarter is `fill`.
    """
    (height, width), center = sample_mosaic(size, scale)
    canvas = torch.tensor(fill, dtype=torch.uint8).reshape(3, 1, 1).repeat(1, height, width)
    placed = []
    for quarter, sample in enumerate(four):
        image_height, image_width = sample.content
        window = place_in_quarter(sample.content, quarter, (height, width), center)
        left, top = -window[0], -window[1]
        x, right = max(left, 0), min(left + image_width, width)
        y, bottom = max(top, 0), min(top + image_height, height)
        canvas[:, y:bottom, x:right] = sample.image[:, y - top : bottom - top, x - left : right - left]
        placed.append(keep_visible(sample, move_to_window(sample, window, size), size))
    return merge_objects(placed[0]._replace(image=F.resize(canvas, list(size), antialias=True)), placed)


def sample_mosaic(size: tuple[int, int], scale: float) -> tuple[tuple[int, int], tuple[int, int]]:
    """Draw a mosaic's canvas (H, W), which becomes `size`, and the point (x, y) on it where its four images meet."""
    height, width = max(1, round(size[0] / scale)), max(1, round(size[1] / scale))
    center_x, center_y = round(sample_uniform(*MOSAIC_CENTER) * width), round(sample_uniform(*MOSAIC_CENTER) * height)
    return (height, width), (center_x, center_y)


def place_in_quarter(
    content: tuple[int, int], quarter: int, canvas: tuple[int, int], center: tuple[int, int]
) -> Window:
    """The whole canvas (H, W) as a window of one of the four images: left above, right above, left below, right below.

    content: the image's size (H, W).
    """
    left = center[0] if quarter % 2 else center[0] - content[1]
    top = center[1] if quarter // 2 else center[1] - content[0]
    return -left, -top, canvas[1] - left, canvas[0] - top


def mixup(first: Sample, second: Sample, ratio: float, fill: tuple[int, int, int]) -> Sample:
    """Blend two images, `ratio` of the first, and keep the objects of both (Zhang et al. 2018).

    Both are padded to the larger height and the larger width. All boxes keep their full weight in the loss, as in
    YOLOX.
    """
    content = max(first.content[0], second.content[0]), max(first.content[1], second.content[1])
    images = [add_padding(sample, content, fill).image.float() for sample in (first, second)]
    blended = torch.lerp(images[1], images[0], ratio).round_().to(torch.uint8)
    return merge_objects(first._replace(image=blended, content=content), [first, second])


def draw_mixup_ratio() -> float:
    """Draw the first image's share of a blend."""
    return float(torch.distributions.Beta(MIXUP_BETA, MIXUP_BETA).sample())


def merge_objects(sample: Sample, others: list[Sample]) -> Sample:
    """Return the image of `sample` with the boxes, labels and states of all `others`."""
    return sample._replace(
        boxes_xyxy=torch.cat([other.boxes_xyxy for other in others]),
        labels=torch.cat([other.labels for other in others]),
        states=torch.cat([other.states for other in others]),
    )
