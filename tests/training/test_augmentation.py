"""Boxes, labels and states stay with their objects under every augmentation, and the padding stays padding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from detector.engine.dataset import Sample
from detector.training.augmentation import (
    MIN_SIDE,
    Augmenter,
    add_padding,
    draw_mixup_ratio,
    flip,
    mixup,
    mosaic,
    random_bool,
    random_window,
    remove_padding,
    rotate,
    sample_crop_window,
    sample_uniform,
)

FILL = (128, 128, 128)
HEIGHT, WIDTH = 96, 128
# By label, from 1; a blend of two of them, or of one with the fill, matches none.
COLORS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255), (0, 255, 255)]
SCALE = (0.7, 1.5)
KINDS = {
    "scale": {},
    "mosaic": {"mosaic": 1.0},
    "crop": {"crop": 1.0},
    "rotation": {"rotation": 15.0},
    "mosaic and rotation": {"mosaic": 1.0, "rotation": 15.0},
}
EACH_ALONE: dict[str, dict[str, Any]] = {
    "flip": {"flip": 1.0, "scale": (1.0, 1.0)},
    "window": {"flip": 0.0, "scale": (0.3, 2.5)},
    "color": {"flip": 0.0, "scale": (1.0, 1.0), "color_jitter": 0.9},
    "mosaic": {"flip": 0.0, "mosaic": 1.0},
    "mixup": {"flip": 0.0, "mixup": 1.0},
    "crop": {"flip": 0.0, "crop": 1.0},
    "rotation": {"flip": 0.0, "rotation": 40.0},
    "all": {"color_jitter": 0.5, "mosaic": 0.3, "mixup": 0.5, "crop": 0.5, "rotation": 40.0},
}


def augment(**changes: Any) -> Augmenter:
    settings: dict[str, Any] = {"flip": 0.5, "scale": SCALE, "color_jitter": 0.0, "fill": FILL, "epochs": 10}
    return Augmenter(**settings | changes)


def square(label: int, height: int = HEIGHT, width: int = WIDTH) -> Sample:
    """An image of height x width at the top left of its padding, with one square of the label's color."""
    side = round(sample_uniform(16, 30))
    left, top = round(sample_uniform(0, width - side)), round(sample_uniform(0, height - side))
    image = torch.full((3, HEIGHT, WIDTH), 128, dtype=torch.uint8)
    image[:, top : top + side, left : left + side] = torch.tensor(COLORS[label - 1], dtype=torch.uint8)[:, None, None]
    box = torch.tensor([[left, top, left + side, top + side]], dtype=torch.float32)
    return Sample(image, box, torch.tensor([label]), torch.tensor([label + 10]), 0, (1.0, 1.0), (height, width))


def squares() -> Callable[[], Sample]:
    """Draw images with squares of the second color, the third, ..."""
    labels = iter(range(2, len(COLORS) + 1))
    return lambda: square(next(labels))


def extent(image: Tensor, label: int) -> Tensor:
    """Box [4] of the pixels that have the label's color."""
    color = torch.tensor(COLORS[label - 1])[:, None, None]
    rows, columns = torch.nonzero((image.int() - color).abs().amax(0) < 64, as_tuple=True)
    return torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()


def check(sample: Sample) -> None:
    """Each box is inside the image, has a size, its label and its state."""
    boxes = sample.boxes_xyxy
    assert sample.image.shape == (3, HEIGHT, WIDTH)
    assert sample.image.dtype == torch.uint8
    assert boxes.dtype == torch.float32
    assert boxes.shape == (len(sample.labels), 4)
    assert (sample.states == sample.labels + 10).all()
    height, width = sample.content
    assert 1 <= height <= HEIGHT
    assert 1 <= width <= WIDTH
    assert (boxes >= 0).all()
    assert (boxes <= torch.tensor([width, height] * 2)).all()
    assert (boxes[:, 2:] - boxes[:, :2] >= MIN_SIDE).all()


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=60)
@given(seed=st.integers(0, 2**32), height=st.integers(40, HEIGHT), width=st.integers(40, WIDTH))
def test_a_box_covers_its_square(kind: str, seed: int, height: int, width: int) -> None:
    torch.manual_seed(seed)
    changed = augment(**KINDS[kind])(square(1, height, width), 0, squares())
    check(changed)
    # The last pixels at the corners of a rotated square are blended too much to match.
    tolerance = 3.5 if "rotation" in kind else 1.5
    for box, label in zip(changed.boxes_xyxy, changed.labels.tolist(), strict=True):
        found = extent(changed.image, label)
        if "mosaic and" not in kind:
            assert torch.allclose(box, found, atol=tolerance), (box, found)
        else:  # a square cut by its quarter is rotated with it: its box may be too large, but not too small
            assert (found[:2] >= box[:2] - tolerance).all()
            assert (found[2:] <= box[2:] + tolerance).all()


@pytest.mark.parametrize("kind", KINDS)
def test_many_squares_are_kept(kind: str) -> None:
    torch.manual_seed(0)
    kept = [len(augment(**KINDS[kind])(square(1), 0, squares()).labels) for _ in range(60)]
    assert sum(kept) > (50 if "mosaic" in kind else 40)  # about a quarter of each image is visible in a mosaic
    assert max(kept) >= (3 if "mosaic" in kind else 1)


@st.composite
def many_boxes(draw: st.DrawFn) -> Sample:
    """Any number of boxes, including none, in an image of noise."""
    count = draw(st.integers(0, 6))
    corners = torch.tensor(draw(st.lists(st.floats(0, 1, width=32), min_size=4 * count, max_size=4 * count)))
    corners = corners.reshape(count, 2, 2).sort(1).values.reshape(count, 4)
    labels = torch.arange(1, count + 1)
    heights, widths = st.integers(1, HEIGHT), st.integers(1, WIDTH)  # letterboxing fills one side of the input
    content = draw(st.one_of(st.tuples(st.just(HEIGHT), widths), st.tuples(heights, st.just(WIDTH))))
    image = torch.randint(256, (3, *content), dtype=torch.uint8)
    boxes = corners * torch.tensor([content[1], content[0]] * 2)
    return add_padding(Sample(image, boxes, labels, labels + 10, 0, (1.0, 1.0), content), (HEIGHT, WIDTH), FILL)


@settings(max_examples=80)
@given(st.lists(many_boxes(), min_size=1, max_size=3), st.integers(0, 2**32), st.floats(0.3, 2), st.floats(0, 45))
def test_boxes_stay_inside_and_have_a_size(samples: list[Sample], seed: int, scale: float, rotation: float) -> None:
    torch.manual_seed(seed)
    everything = augment(scale=(scale, 2.0), color_jitter=0.3, mosaic=0.5, mixup=0.5, crop=0.5, rotation=rotation)
    check(everything(samples[0], 0, lambda: samples[int(torch.randint(len(samples), ()))]))


@pytest.mark.parametrize("kind", EACH_ALONE)
@settings(max_examples=40)
@given(first=many_boxes(), second=many_boxes(), seed=st.integers(0, 2**32))
def test_only_the_content_is_augmented(kind: str, first: Sample, second: Sample, seed: int) -> None:
    """What is outside stays exactly `fill`: models that mask the padding rely on it in files without targets."""
    torch.manual_seed(seed)
    changed = augment(**EACH_ALONE[kind])(first, 0, lambda: second)
    check(changed)
    height, width = changed.content
    if kind == "mosaic":
        assert changed.content == (HEIGHT, WIDTH)
    elif kind == "mixup":
        assert changed.content == tuple(map(max, first.content, second.content))
    elif kind != "all":
        assert changed.content == first.content
    color = torch.tensor(FILL, dtype=torch.uint8)[:, None, None]
    assert (changed.image[:, height:] == color).all()
    assert (changed.image[:, :, width:] == color).all()


@settings(max_examples=40)
@given(many_boxes())
def test_a_flip_mirrors_the_content_and_two_are_the_identity(sample: Sample) -> None:
    mirrored = augment(**EACH_ALONE["flip"])(sample, 0, squares())
    height, width = sample.content
    assert torch.equal(mirrored.image[:, :height, :width], sample.image[:, :height, :width].flip(-1))
    twice = flip(flip(remove_padding(sample)))
    assert torch.equal(add_padding(twice, (HEIGHT, WIDTH), FILL).image, sample.image)
    assert torch.allclose(twice.boxes_xyxy, sample.boxes_xyxy, atol=1e-4)


def test_disabled_augmentations_draw_no_random_numbers() -> None:
    """A new augmentation leaves trainings without it byte-identical."""
    sample = square(1, 80, 70)
    for seed in range(20):
        torch.manual_seed(seed)
        changed = augment(color_jitter=0.2)(sample, 0, squares())
        after = torch.get_rng_state()
        torch.manual_seed(seed)
        image, (left, top, right, bottom) = sample.image[:, :80, :70], sample.boxes_xyxy[0].tolist()
        if float(torch.rand(())) < 0.5:
            image, left, right = F.horizontal_flip(image), 70 - right, 70 - left
        flipped = sample._replace(image=image, boxes_xyxy=torch.tensor([[left, top, right, bottom]]))
        scaled = random_window(flipped, 0.7 + (1.5 - 0.7) * float(torch.rand(())), FILL)
        assert torch.equal(changed.image[:, :80, :70], v2.ColorJitter(0.2, 0.2, 0.2)(scaled.image))
        assert torch.equal(changed.boxes_xyxy, scaled.boxes_xyxy)
        assert torch.equal(after, torch.get_rng_state())
    assert not random_bool(0)
    assert torch.equal(after, torch.get_rng_state())


def test_the_last_fifth_has_no_mosaic() -> None:
    def calls(visit: int) -> int:
        drawn: list[Sample] = []

        def draw() -> Sample:
            drawn.append(square(2))
            return drawn[-1]

        augment(mosaic=1.0)(square(1), visit, draw)
        return len(drawn)

    # With 10 epochs; visits from 10 on are repetitions within an epoch.
    assert [visit for visit in range(30) if calls(visit)] == [*range(8), *range(10, 18), *range(20, 28)]


def test_mosaic_shows_four_images_without_their_padding() -> None:
    four = []
    for label in range(1, 5):
        image = torch.full((3, 64, 64), 10 * label, dtype=torch.uint8)
        four.append(
            square(label)._replace(image=image, boxes_xyxy=torch.tensor([[1.0, 2.0, 61.0, 62.0]]), content=(64, 64))
        )
    torch.manual_seed(0)
    made = mosaic(four, 1.0, (48, 48), (0, 0, 0))
    assert made.image.shape == (3, 48, 48)
    assert set(made.image.unique().tolist()) == {10, 20, 30, 40}
    corners = made.image[0, [0, 0, -1, -1], [0, -1, 0, -1]]
    assert corners.tolist() == [10, 20, 30, 40]
    for box, label in zip(made.boxes_xyxy.round().int().tolist(), made.labels.tolist(), strict=True):
        assert (made.image[0, box[1] : box[3], box[0] : box[2]] == 10 * label).all()


def test_mixup_blends_and_keeps_the_objects_of_both() -> None:
    torch.manual_seed(0)
    first, second = square(1), square(2)
    ratios = []
    for _ in range(50):
        mixed = mixup(first, second, draw_mixup_ratio(), FILL)
        assert torch.equal(mixed.boxes_xyxy, torch.cat([first.boxes_xyxy, second.boxes_xyxy]))
        assert mixed.labels.tolist() == [1, 2]
        assert mixed.states.tolist() == [11, 12]
        x, y = first.boxes_xyxy[0, :2].int().tolist()
        ratio = (float(mixed.image[0, y, x]) - 128) / 127
        assert mixed.image[:, y, x].tolist() == pytest.approx([128 + 127 * ratio] + [128 * (1 - ratio)] * 2, abs=2)
        ratios.append(ratio)
    assert 0.4 < sum(ratios) / len(ratios) < 0.6
    assert min(ratios) > 0.1


def test_mixup_of_a_fraction() -> None:
    torch.manual_seed(0)
    blended = [len(augment(scale=(1.0, 1.0), mixup=0.25)(square(1), 0, squares()).labels) for _ in range(200)]
    assert 30 < blended.count(2) < 70
    assert set(blended) == {1, 2}


def test_rotation_is_counter_clockwise_and_fills_without_a_seam() -> None:
    image = torch.full((3, HEIGHT, WIDTH), 200, dtype=torch.uint8)
    middle = torch.tensor([[WIDTH - 30.0, HEIGHT / 2 - 5, WIDTH - 20.0, HEIGHT / 2 + 5]])  # right of the center
    sample = square(1)._replace(image=image, boxes_xyxy=middle)
    rotated = rotate(sample, 10.0, (100, 110, 120))
    assert rotated.boxes_xyxy[0, 1] < middle[0, 1]  # up
    assert rotated.image[:, 0, 0].tolist() == [100, 110, 120]
    for channel, color in zip(rotated.image, (100, 110, 120), strict=True):
        assert channel.min() == color
        assert channel.max() == 200


def test_a_crop_keeps_an_object() -> None:
    torch.manual_seed(0)
    cropped = [augment(crop=1.0, scale=(1.0, 1.0))(square(1), 0, squares()) for _ in range(100)]
    sides = torch.cat([sample.boxes_xyxy[:, 2:] - sample.boxes_xyxy[:, :2] for sample in cropped])
    assert len(sides) > 85  # a square with too small a visible fraction is dropped
    assert (sides[:, 0] > 31).sum() > 20  # and many are larger than in any original


def test_an_image_without_objects() -> None:
    empty = square(1)._replace(boxes_xyxy=torch.zeros(0, 4), labels=torch.zeros(0).long(), states=torch.zeros(0).long())
    images: Iterator[Sample] = iter([empty] * 9)
    everything = augment(mosaic=0.5, mixup=1.0, crop=1.0, rotation=9.0)
    for seed in range(2):
        torch.manual_seed(seed)
        check(everything(empty, 0, lambda: next(images)))


@settings(max_examples=60)
@given(many_boxes(), st.integers(0, 2**32))
def test_a_crop_window_is_inside_the_image_and_contains_the_center_of_an_object(sample: Sample, seed: int) -> None:
    torch.manual_seed(seed)
    boxes = sample.boxes_xyxy
    window = sample_crop_window(boxes, HEIGHT, WIDTH)
    if window is None:
        return
    left, top, right, bottom = window
    assert 0 <= left < right <= WIDTH
    assert 0 <= top < bottom <= HEIGHT
    assert 0.45 < (right - left) / (bottom - top) < 2.2
    x, y = ((boxes[:, :2] + boxes[:, 2:]) / 2).unbind(1)
    assert ((x > left) & (x < right) & (y > top) & (y < bottom)).any()
