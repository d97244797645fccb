"""The content area of letterboxed images, read from the pixels."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from detector.models.padding import make_content_mask, measure_content

FILL = (120, 110, 100)
COLOR = torch.tensor(FILL, dtype=torch.float32).view(1, 3, 1, 1)
HEIGHT, WIDTH = 64, 96


def letterboxed(seed: int, sizes: list[tuple[int, int]]) -> torch.Tensor:
    """Noise of `sizes` (H, W) at the top left; the last pixel of each differs from the padding color."""
    generator = torch.Generator().manual_seed(seed)
    images = COLOR.to(torch.uint8).expand(len(sizes), -1, HEIGHT, WIDTH).clone()
    for image, (height, width) in zip(images, sizes, strict=True):
        image[:, :height, :width] = torch.randint(98, 123, (3, height, width), generator=generator, dtype=torch.uint8)
        image[:, height - 1, width - 1] = 7
    return images


SIZES = st.lists(st.tuples(st.integers(1, HEIGHT), st.integers(1, WIDTH)), min_size=1, max_size=4)


@settings(max_examples=60)
@given(st.integers(0, 10**6), SIZES)
def test_measures_the_content(seed: int, sizes: list[tuple[int, int]]) -> None:
    assert measure_content(letterboxed(seed, sizes), COLOR).tolist() == [list(size) for size in sizes]


@settings(max_examples=60)
@given(SIZES, st.sampled_from([8, 32]))
def test_mask_equals_the_downsampled_pixel_mask(sizes: list[tuple[int, int]], stride: int) -> None:
    cells = (HEIGHT // stride, WIDTH // stride)
    mask = make_content_mask(torch.tensor(sizes, dtype=torch.float32), cells, stride)
    assert mask.shape == (len(sizes), *cells)
    assert mask.flatten(1).any(1).all()
    for image_mask, (height, width) in zip(mask, sizes, strict=True):
        pixels = torch.zeros(HEIGHT, WIDTH)
        pixels[:height, :width] = 1
        assert torch.equal(
            image_mask, F.interpolate(pixels[None, None], cells)[0, 0] > 0
        )  # nearest, as in transformers


def test_only_the_right_and_bottom_margins_are_padding() -> None:
    image = COLOR.to(torch.uint8).expand(1, -1, HEIGHT, WIDTH).clone()
    image[:, 1, 40, 50] = 0  # one channel of one pixel; the padding color everywhere else
    assert measure_content(image, COLOR).tolist() == [[41, 51]]


def test_an_image_of_only_the_padding_color_is_content() -> None:
    image = COLOR.to(torch.uint8).expand(2, -1, HEIGHT, WIDTH)
    assert measure_content(image, COLOR).tolist() == [[HEIGHT, WIDTH]] * 2
