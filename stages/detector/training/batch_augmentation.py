"""Random augmentation of whole batches on the device, with the settings of `Augmenter`.

The workers decode, letterbox, draw all random numbers and move the boxes; the device changes the pixels. A flip, a
window and a mosaic are one resampling of both axes, a product with two matrices, with the same filter as in
`Augmenter`. The random numbers of an image come from (seed, visit, row) as there, so they depend neither on the number
of workers nor on interruptions. The other images of a mosaic or a blend are from the same batch. A rotation is no such
product: with `rotation`, and where mosaics or blends need more images than a batch has, all augmentation stays in the
workers (`is_supported`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from detector.engine.dataset import Batch, Sample, collate
from detector.training.augmentation import (
    Augmenter,
    Window,
    draw_mixup_ratio,
    flip_boxes,
    keep_visible,
    merge_objects,
    move_to_window,
    place_in_quarter,
    random_bool,
    sample_crop_window,
    sample_mosaic,
    sample_uniform,
    sample_window,
)

GRAY = (0.2989, 0.587, 0.114)  # of R, G and B, as in torchvision
BRIGHTNESS, CONTRAST = 0, 1  # in the drawn order of the color changes; 2 is saturation


class ImagePlan(NamedTuple):
    """The random numbers of one image.

    flips: of the image, and in a mosaic of the three others. window: what becomes the image, None in a mosaic. canvas
    (H, W) and center (x, y): of a mosaic. others: for `_choose`, three images of a mosaic, then one of a blend.
    ratio: of this image in a blend, None without one. order, factors: of the color changes; empty without.
    """

    flips: tuple[bool, ...]
    window: Window | None
    canvas: tuple[int, int]
    center: tuple[int, int]
    others: tuple[float, ...]
    ratio: float | None
    order: tuple[int, ...]
    factors: tuple[float, ...]


class BatchPlan(NamedTuple):
    """What the device does to the images of a batch of B; each picture is made of one image, in a mosaic of four.

    sources int64 [B, 4]: those images; without a mosaic only the first is used. flips bool [B, 4]. windows float32
    [B, 4, 4]: left, top, right, bottom of what is taken from each, in its pixels after the flip, also beyond its
    content. inputs float32 [B, 4, 2]: content (H, W) of each. outputs float32 [B, 2]: of the picture, into which the
    windows are resized. mosaics int64 [K]: pictures that are one. blended, partners int64 [L] and ratios float32 [L]:
    pictures blended with another one. orders int64 [B, 3], factors float32 [B, 3]: of the color changes; [0, 3]
    without. fill float32 [3]. taps: the most pixels that one pixel is computed from, per axis.
    """

    sources: Tensor
    flips: Tensor
    windows: Tensor
    inputs: Tensor
    outputs: Tensor
    mosaics: Tensor
    blended: Tensor
    partners: Tensor
    ratios: Tensor
    orders: Tensor
    factors: Tensor
    fill: Tensor
    taps: int

    def to(self, device: torch.device) -> BatchPlan:
        """Copy the tensors to `device`."""
        parts: dict[str, Any] = self._asdict()
        moved = {name: part.to(device, non_blocking=True) for name, part in parts.items() if name != "taps"}
        return BatchPlan(**moved, taps=self.taps)


def is_supported(augmenter: Augmenter, batch_size: int) -> bool:
    """Whether the device can do all that the augmenter does: no rotation, and as many images as a mosaic has."""
    return augmenter.rotation == 0 and (batch_size >= 4 or augmenter.mosaic == augmenter.mixup == 0)


@dataclass(frozen=True)
class BatchAugmenter:
    """Plans what `augmenter` does, for the device to do it: `plan` in the dataset, `collate` in the loader."""

    augmenter: Augmenter

    def plan(self, sample: Sample, visit: int, _: Callable[[], Sample]) -> Sample:
        """Draw the random numbers of one image, which stays as it is until the device gets it."""
        augmenter = self.augmenter
        size = sample.image.shape[-2], sample.image.shape[-1]
        is_mosaic = random_bool(augmenter.mosaic_probability(visit))
        flips = tuple(sample_uniform(0, 1) < augmenter.flip for _ in range(4 if is_mosaic else 1))
        window, canvas, center = None, (0, 0), (0, 0)
        others: tuple[float, ...] = ()
        if is_mosaic:
            canvas, center = sample_mosaic(size, sample_uniform(*augmenter.scale))
            others = tuple(torch.rand(3).tolist())
        else:
            if random_bool(augmenter.crop):
                window = sample_crop_window(_flip(sample, flips[0]).boxes_xyxy, *sample.content)
            window = window or sample_window(sample.content, sample_uniform(*augmenter.scale))
        ratio = None
        if random_bool(augmenter.mixup):
            others, ratio = (*others, sample_uniform(0, 1)), draw_mixup_ratio()
        order: tuple[int, ...] = ()
        factors: tuple[float, ...] = ()
        if augmenter.color_jitter > 0:
            jitter = augmenter.color_jitter
            order = tuple(torch.randperm(3).tolist())
            factors = tuple(sample_uniform(max(0.0, 1 - jitter), 1 + jitter) for _ in range(3))
        return sample._replace(plan=ImagePlan(flips, window, canvas, center, others, ratio, order, factors))

    def collate(self, samples: list[Sample]) -> Batch:
        """Stack the images as they are, with the targets after augmentation and the plan that leads to them."""
        size = samples[0].image.shape[-2], samples[0].image.shape[-1]
        pictures = [_place(samples, index, size) for index in range(len(samples))]
        transformed = [picture.sample for picture in pictures]
        targets, partners = list(transformed), {}
        for index, sample in enumerate(samples):
            if sample.plan.ratio is not None:
                partners[index] = _choose(len(samples), index, sample.plan.others[-1])
                first, second = transformed[index], transformed[partners[index]]
                content = max(first.content[0], second.content[0]), max(first.content[1], second.content[1])
                targets[index] = merge_objects(first._replace(content=content), [first, second])
        plans = [sample.plan for sample in samples]
        windows = torch.tensor([picture.windows for picture in pictures], dtype=torch.float32)  # [B, 4, 4]
        outputs = torch.tensor([sample.content for sample in transformed], dtype=torch.float32)
        ratios = (windows[..., 2:] - windows[..., :2]) / outputs.flip(1)[:, None]
        plan = BatchPlan(
            torch.tensor([picture.sources for picture in pictures]),
            torch.tensor([picture.flips for picture in pictures]),
            windows,
            torch.tensor([[samples[source].content for source in picture.sources] for picture in pictures]).float(),
            outputs,
            torch.tensor([index for index, plan in enumerate(plans) if plan.window is None], dtype=torch.int64),
            torch.tensor(list(partners), dtype=torch.int64),
            torch.tensor(list(partners.values()), dtype=torch.int64),
            torch.tensor([plan.ratio for plan in plans if plan.ratio is not None], dtype=torch.float32),
            torch.tensor([plan.order for plan in plans if plan.order], dtype=torch.int64).reshape(-1, 3),
            torch.tensor([plan.factors for plan in plans if plan.factors], dtype=torch.float32).reshape(-1, 3),
            torch.tensor(self.augmenter.fill, dtype=torch.float32),
            2 * math.ceil(max(1.0, float(ratios.max()))) + 2,
        )
        return collate(targets)._replace(plan=plan)


class _Picture(NamedTuple):
    """What one picture is made of, four entries each; sample: its objects and content, with an image of no meaning."""

    sample: Sample
    sources: list[int]
    flips: list[bool]
    windows: list[Window]


def _place(samples: list[Sample], index: int, size: tuple[int, int]) -> _Picture:
    sample, plan = samples[index], samples[index].plan
    if plan.window is not None:
        moved = move_to_window(_flip(sample, plan.flips[0]), plan.window, sample.content)
        kept = keep_visible(sample, moved, sample.content)
        return _Picture(kept, [index] * 4, [plan.flips[0]] * 4, [plan.window] * 4)
    sources = [index, *(_choose(len(samples), index, number) for number in plan.others[:3])]
    windows, placed = [], []
    for quarter, (source, flipped) in enumerate(zip(sources, plan.flips, strict=True)):
        part = _flip(samples[source], flipped)
        windows.append(place_in_quarter(part.content, quarter, plan.canvas, plan.center))
        placed.append(keep_visible(part, move_to_window(part, windows[-1], size), size))
    picture = merge_objects(sample._replace(content=size), placed)
    return _Picture(picture, sources, list(plan.flips), windows)


def _choose(count: int, index: int, number: float) -> int:
    """Another image of the batch, from a number in [0, 1); the image itself only if it is alone."""
    return (index + 1 + int(number * (count - 1))) % count


def _flip(sample: Sample, flipped: bool) -> Sample:
    """The sample with its boxes flipped, but not its image."""
    return sample._replace(boxes_xyxy=flip_boxes(sample.boxes_xyxy, sample.content[1])) if flipped else sample


def augment_images(images: Tensor, plan: BatchPlan, content: Tensor) -> Tensor:
    """Augment images uint8 [B, 3, H, W] by a plan on the same device; nothing waits for the device.

    content: float32 [B, 2], of the targets. What lies outside of it has the color `fill`.
    """
    fill = plan.fill[:, None, None]
    everything = torch.arange(len(images), device=images.device)
    pictures = _resample(images, plan, everything, 0)
    if len(plan.mosaics):
        for part in range(1, 4):
            pictures[plan.mosaics] += _resample(images, plan, plan.mosaics, part)
    if len(plan.blended):
        ratios = plan.ratios[:, None, None, None]
        pictures[plan.blended] = torch.lerp(pictures[plan.partners], pictures[plan.blended], ratios)
    pictures += fill
    height, width = images.shape[-2:]
    rows = torch.arange(height, device=images.device) < content[:, :1]
    columns = torch.arange(width, device=images.device) < content[:, 1:]
    inside = (rows[:, :, None] & columns[:, None, :])[:, None]  # [B, 1, H, W]
    if len(plan.orders):
        pictures = torch.where(inside, _change_colors(pictures, inside, plan), fill)
    return pictures.round_().clamp_(0, 255).to(torch.uint8)


def _resample(images: Tensor, plan: BatchPlan, pictures: Tensor, part: int) -> Tensor:
    """Part 0 to 3 of the pictures int64 [N], as a difference to `fill`: float32 [N, 3, H, W]."""
    source = images[plan.sources[pictures, part]] - plan.fill[:, None, None]
    window, inputs, outputs = plan.windows[pictures, part], plan.inputs[pictures, part], plan.outputs[pictures]
    none = torch.zeros(len(pictures), dtype=torch.bool, device=images.device)
    vertical = make_weights(window[:, 1], window[:, 3], none, inputs[:, 0], outputs[:, 0], images.shape[-2], plan.taps)
    flips = plan.flips[pictures, part]
    horizontal = make_weights(
        window[:, 0], window[:, 2], flips, inputs[:, 1], outputs[:, 1], images.shape[-1], plan.taps
    )
    return vertical[:, None] @ source @ horizontal[:, None].transpose(-1, -2)


def make_weights(
    start: Tensor, end: Tensor, flips: Tensor, inputs: Tensor, outputs: Tensor, length: int, taps: int
) -> Tensor:
    """The share of each input pixel in each output pixel of one axis: float32 [N, length, length].

    start, end [N]: the window that becomes `outputs` pixels, in pixels of the input, which has `inputs`. A triangle
    filter, as wide as the reduction, over the pixels of the window, as in torchvision's `resized_crop`. The shares of
    pixels beyond the input are left out; rows beyond `outputs` are 0.
    """
    pixel = torch.arange(length, device=start.device, dtype=torch.float32)
    ratio = ((end - start) / outputs)[:, None]
    support = ratio.clamp(min=1)[..., None]  # [N, 1, 1]
    center = (start[:, None] + (pixel + 0.5) * ratio)[..., None]  # [N, length, 1]
    position = torch.where(flips[:, None], inputs[:, None] - 1 - pixel, pixel)[:, None]  # [N, 1, length]

    def share(at: Tensor) -> Tensor:
        weight = (1 - (at + 0.5 - center).abs() / support).clamp(min=0)
        return weight * ((at >= start[:, None, None]) & (at < end[:, None, None]))

    near = (center - support).floor() + torch.arange(taps, device=start.device)  # [N, length, taps]
    total = share(near).sum(-1, keepdim=True)
    is_input = (position >= 0) & (position < inputs[:, None, None])
    is_output = pixel[:, None] < outputs[:, None, None]
    return torch.where(is_input & is_output, share(position) / total, 0)


def _change_colors(pictures: Tensor, inside: Tensor, plan: BatchPlan) -> Tensor:
    """Brightness, contrast and saturation of the content in each picture's order, as in torchvision's ColorJitter."""
    count = inside.sum((1, 2, 3), keepdim=True)
    for step in range(3):
        kind = plan.orders[:, step, None, None, None]
        factor = plan.factors.gather(1, plan.orders[:, step : step + 1])[..., None, None]
        red, green, blue = pictures[:, :, None].unbind(1)  # each [B, 1, H, W]
        gray = GRAY[0] * red + GRAY[1] * green + GRAY[2] * blue
        mean = (gray * inside).sum((1, 2, 3), keepdim=True) / count
        base = torch.where(kind == CONTRAST, mean, gray).where(kind != BRIGHTNESS, 0)
        pictures = torch.lerp(base, pictures, factor).clamp_(0, 255)
    return pictures


def finish_batch(batch: Batch, device: torch.device) -> Batch:
    """The batch on the device, with its plan carried out."""
    images, targets = batch.images.to(device, non_blocking=True), batch.targets.to(device)
    plan: Any = batch.plan
    if plan is not None:
        images = augment_images(images, plan.to(device), targets.content)
    return batch._replace(images=images, targets=targets, plan=None)
