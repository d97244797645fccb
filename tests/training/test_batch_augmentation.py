"""Augmentation on the device does to pixels and boxes what `Augmenter` does to those of one image."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from detector.engine.dataset import Batch, Sample
from detector.training.augmentation import (
    MIN_SIDE,
    Augmenter,
    add_padding,
    keep_visible,
    mixup,
    mosaic,
    move_to_window,
    remove_padding,
)
from detector.training.augmentation import flip as flip_sample
from detector.training.batch_augmentation import BatchAugmenter, augment_images, finish_batch, is_supported

CPU = torch.device("cpu")
FILL = (128, 120, 110)
HEIGHT, WIDTH = 96, 128
COLORS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255), (0, 255, 255)]
KINDS: dict[str, dict[str, Any]] = {
    "nothing": {"flip": 0.0, "scale": (1.0, 1.0)},
    "flip": {"flip": 1.0, "scale": (1.0, 1.0)},
    "window": {"flip": 0.0, "scale": (0.4, 2.2)},
    "mosaic": {"mosaic": 1.0},
    "crop": {"crop": 1.0},
    "all": {"mosaic": 0.4, "crop": 0.5, "mixup": 0.5, "color_jitter": 0.5},
}


def augmenter(**changes: Any) -> Augmenter:
    given: dict[str, Any] = {"flip": 0.5, "scale": (0.7, 1.5), "color_jitter": 0.0, "fill": FILL, "epochs": 10}
    return Augmenter(**given | changes)


def plan(samples: list[Sample], **changes: Any) -> Batch:
    """One batch of a worker."""
    batch_augmenter = BatchAugmenter(augmenter(**changes))
    return batch_augmenter.collate([batch_augmenter.plan(sample, 0, lambda: samples[0]) for sample in samples])


def augment(samples: list[Sample], **changes: Any) -> Batch:
    """One batch through worker and device."""
    return finish_batch(plan(samples, **changes), CPU)


@st.composite
def samples(draw: st.DrawFn) -> list[Sample]:
    """Up to six images with a square of a color of its own each, at the top left of their padding."""
    made = []
    for label in range(1, draw(st.integers(1, 6)) + 1):
        height, width = draw(st.integers(40, HEIGHT)), draw(st.integers(40, WIDTH))
        side = draw(st.integers(14, 34))
        left, top = draw(st.integers(0, width - side)), draw(st.integers(0, height - side))
        image = torch.full((3, height, width), 128, dtype=torch.uint8)
        color = torch.tensor(COLORS[label - 1], dtype=torch.uint8)[:, None, None]
        image[:, top : top + side, left : left + side] = color
        box = torch.tensor([[left, top, left + side, top + side]], dtype=torch.float32)
        label_of = torch.tensor([label])
        sample = Sample(image, box, label_of, label_of + 10, label, (1.0, 1.0), (height, width))
        made.append(add_padding(sample, (HEIGHT, WIDTH), FILL))
    return made


def noise(height: int, width: int, seed: int) -> Sample:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(256, (3, height, width), dtype=torch.uint8, generator=generator)
    box = torch.tensor([[3.0, 5.0, width - 2.0, height - 7.0]])
    sample = Sample(image, box, torch.tensor([seed]), torch.tensor([0]), 0, (1.0, 1.0), (height, width))
    return add_padding(sample, (HEIGHT, WIDTH), FILL)


def real(batch: Batch, index: int) -> tuple[Tensor, list[int]]:
    """Boxes and labels of an image, without the padding of the batch."""
    labels = batch.targets.labels[index]
    return batch.targets.boxes_xyxy[index, labels > 0], labels[labels > 0].tolist()


def extent(image: Tensor, label: int) -> Tensor:
    """Box [4] of the pixels that have the label's color."""
    rows, columns = torch.nonzero(
        (image.int() - torch.tensor(COLORS[label - 1])[:, None, None]).abs().amax(0) < 64, as_tuple=True
    )
    return torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()


@pytest.mark.parametrize("kind", ["nothing", "flip", "window", "mosaic", "crop"])
@settings(max_examples=40)
@given(images=samples(), seed=st.integers(0, 2**32))
def test_a_box_covers_its_square(kind: str, images: list[Sample], seed: int) -> None:
    torch.manual_seed(seed)
    planned = plan(images, **KINDS[kind])
    batch = finish_batch(planned, CPU)
    for index in range(len(images)):
        boxes, labels = real(batch, index)
        if kind == "mosaic" and len(planned.plan.sources[index].unique()) < 4:
            continue  # an image that is in it twice: its color is at several places
        for box, label in zip(boxes, labels, strict=True):
            assert torch.allclose(box, extent(batch.images[index], label), atol=1.5)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=40)
@given(images=samples(), seed=st.integers(0, 2**32))
def test_boxes_are_inside_the_content_and_the_rest_is_padding(kind: str, images: list[Sample], seed: int) -> None:
    torch.manual_seed(seed)
    batch = augment(images, **KINDS[kind])
    assert batch.images.dtype == torch.uint8
    assert batch.images.shape == (len(images), 3, HEIGHT, WIDTH)
    assert batch.plan is None
    for index, (image, content) in enumerate(zip(batch.images, batch.targets.content.int().tolist(), strict=True)):
        height, width = content
        color = torch.tensor(FILL, dtype=torch.uint8)[:, None, None]
        assert (image[:, height:] == color).all()
        assert (image[:, :, width:] == color).all()
        boxes, labels = real(batch, index)
        assert (boxes >= 0).all()
        assert (boxes <= torch.tensor([width, height] * 2)).all()
        assert (boxes[:, 2:] - boxes[:, :2] >= MIN_SIDE).all()
        assert batch.targets.states[index, : len(labels)].tolist() == [label + 10 for label in labels]
        if kind == "mosaic":
            assert (height, width) == (HEIGHT, WIDTH)
        elif kind != "all":
            assert (height, width) == images[index].content


@settings(max_examples=40)
@given(st.integers(2, HEIGHT), st.integers(2, WIDTH), st.integers(0, 2**32), st.booleans(), st.floats(0.3, 3))
def test_a_window_equals_the_worker_s(height: int, width: int, seed: int, flipped: bool, scale: float) -> None:
    """Pixels within rounding, boxes and labels exactly."""
    torch.manual_seed(seed)
    images = [noise(height, width, 1), noise(HEIGHT, WIDTH, 2)]
    batch_augmenter = BatchAugmenter(augmenter(flip=float(flipped), scale=(scale, scale)))
    planned = [batch_augmenter.plan(sample, 0, lambda: images[0]) for sample in images]
    batch = finish_batch(batch_augmenter.collate(planned), CPU)
    for index, sample in enumerate(images):
        one = remove_padding(flip_sample(remove_padding(sample)) if flipped else sample)
        left, top, right, bottom = planned[index].plan.window
        size = one.content
        border = [max(0, -left), max(0, -top), max(0, right - size[1]), max(0, bottom - size[0])]
        image = F.pad(one.image, border, fill=[float(value) for value in FILL])
        cropped = F.resized_crop(
            image, max(0, top), max(0, left), bottom - top, right - left, list(size), antialias=True
        )
        kept = keep_visible(one, move_to_window(one, (left, top, right, bottom), size), size)
        expected = add_padding(kept._replace(image=cropped), (HEIGHT, WIDTH), FILL)
        assert (batch.images[index].int() - expected.image).abs().max() <= 2
        boxes, labels = real(batch, index)
        assert torch.equal(boxes, expected.boxes_xyxy)
        assert labels == expected.labels.tolist()
        assert batch.targets.content[index].tolist() == list(expected.content)


@settings(max_examples=30)
@given(st.integers(0, 2**32), st.floats(0.5, 2))
def test_mosaic_and_blend_equal_the_worker_s(seed: int, scale: float) -> None:
    torch.manual_seed(seed)
    images = [noise(*size, label) for label, size in enumerate([(96, 128), (50, 128), (96, 70), (33, 47)], 1)]
    batch_augmenter = BatchAugmenter(augmenter(mosaic=1.0, mixup=0.5, scale=(scale, scale)))
    planned = [batch_augmenter.plan(sample, 0, lambda: images[0]) for sample in images]
    batch = finish_batch(batch_augmenter.collate(planned), CPU)
    made = []
    for index, sample in enumerate(planned):
        plan = sample.plan
        sources = [index, *((index + 1 + int(number * 3)) % 4 for number in plan.others[:3])]
        four = [remove_padding(images[source]) for source in sources]
        four = [flip_sample(one) if flipped else one for one, flipped in zip(four, plan.flips, strict=True)]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(
                "detector.training.augmentation.sample_mosaic", lambda *_, plan=plan: (plan.canvas, plan.center)
            )
            made.append(mosaic(four, scale, (HEIGHT, WIDTH), FILL))
    for index, sample in enumerate(planned):
        expected = made[index]
        if sample.plan.ratio is not None:
            partner = (index + 1 + int(sample.plan.others[-1] * 3)) % 4
            expected = mixup(expected, made[partner], sample.plan.ratio, FILL)
        assert (batch.images[index].int() - expected.image).abs().max() <= 2
        boxes, labels = real(batch, index)
        assert torch.equal(boxes, expected.boxes_xyxy)
        assert labels == expected.labels.tolist()


@settings(max_examples=30)
@given(st.integers(8, HEIGHT), st.integers(8, WIDTH), st.integers(0, 2**32))
def test_colors_equal_torchvision(height: int, width: int, seed: int) -> None:
    """Of the content alone; torchvision does not round floats."""
    torch.manual_seed(seed)
    images = [noise(height, width, 1), noise(HEIGHT, WIDTH, 2)]
    batch_augmenter = BatchAugmenter(augmenter(flip=0.0, scale=(1.0, 1.0), color_jitter=0.4))
    planned = [batch_augmenter.plan(sample, 0, lambda: images[0]) for sample in images]
    batch = finish_batch(batch_augmenter.collate(planned), CPU)
    changes = [F.adjust_brightness, F.adjust_contrast, F.adjust_saturation]
    for index, sample in enumerate(planned):
        expected = remove_padding(images[index]).image.float() / 255
        for kind in sample.plan.order:
            expected = changes[kind](expected, sample.plan.factors[kind])
        found = batch.images[index][:, : expected.shape[1], : expected.shape[2]]
        assert (found - expected * 255).abs().max() < 0.6


def test_an_image_alone_in_its_batch_is_its_own_partner() -> None:
    torch.manual_seed(0)
    batch = augment([noise(60, 70, 1)], mosaic=1.0, mixup=1.0, scale=(0.5, 0.5), flip=0.0)
    assert set(real(batch, 0)[1]) == {1}


def test_without_change_images_are_byte_identical() -> None:
    images = [noise(60, 70, 1), noise(HEIGHT, WIDTH, 2)]
    batch = augment(images, **KINDS["nothing"])
    assert torch.equal(batch.images, torch.stack([sample.image for sample in images]))


def test_a_mosaic_uses_each_visit_s_rule_and_rotation_stays_in_the_workers() -> None:
    batch_augmenter = BatchAugmenter(augmenter(mosaic=1.0))
    sample = noise(60, 70, 1)
    assert [batch_augmenter.plan(sample, visit, lambda: sample).plan.window is None for visit in (0, 7, 8, 9, 17)] == [
        True, True, False, False, True,
    ]  # fmt: skip
    assert is_supported(augmenter(mosaic=1.0, crop=1.0, mixup=1.0, color_jitter=0.5), 4)
    assert not is_supported(augmenter(rotation=5.0), 4)
    assert is_supported(augmenter(crop=1.0), 1)
    assert not is_supported(augmenter(mosaic=0.5), 3)
    assert not is_supported(augmenter(mixup=0.5), 1)


def test_disabled_augmentations_draw_no_random_numbers() -> None:
    sample = noise(60, 70, 1)
    torch.manual_seed(0)
    BatchAugmenter(augmenter()).plan(sample, 0, lambda: sample)
    following = torch.rand(())
    torch.manual_seed(0)
    for _ in range(4):  # flip, scale, and the two of the window
        torch.rand(())
    assert torch.equal(torch.rand(()), following)


def test_the_device_draws_no_random_numbers_and_repeats_its_result() -> None:
    torch.manual_seed(0)
    images = [noise(60, 70, 1), noise(HEIGHT, WIDTH, 2), noise(40, WIDTH, 3)]
    batch_augmenter = BatchAugmenter(augmenter(**KINDS["all"]))
    planned = batch_augmenter.collate([batch_augmenter.plan(sample, 0, lambda: images[0]) for sample in images])
    before = torch.get_rng_state()
    first = augment_images(planned.images, planned.plan, planned.targets.content)
    assert torch.equal(first, augment_images(planned.images, planned.plan.to(CPU), planned.targets.content))
    assert torch.equal(before, torch.get_rng_state())
