"""Where padding begins, read from the pixels."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from detector.models.padding import content_mask, content_size

FILL = (120, 110, 100)
COLOUR = torch.tensor(FILL, dtype=torch.float32).view(1, 3, 1, 1)
HEIGHT, WIDTH = 64, 96


def letterboxed(seed: int, sizes: list[tuple[int, int]]) -> torch.Tensor:
    """Noise of `sizes` (H, W) at the top left, the last pixel of each of another colour than the padding."""
    generator = torch.Generator().manual_seed(seed)
    images = COLOUR.to(torch.uint8).expand(len(sizes), -1, HEIGHT, WIDTH).clone()
    for image, (height, width) in zip(images, sizes, strict=True):
        image[:, :height, :width] = torch.randint(98, 123, (3, height, width), generator=generator, dtype=torch.uint8)
        image[:, height - 1, width - 1] = 7
    return images


SIZES = st.lists(st.tuples(st.integers(1, HEIGHT), st.integers(1, WIDTH)), min_size=1, max_size=4)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), SIZES)
def test_size_is_that_of_the_picture(seed: int, sizes: list[tuple[int, int]]) -> None:
    assert content_size(letterboxed(seed, sizes), COLOUR).tolist() == [list(size) for size in sizes]


@settings(max_examples=60, deadline=None)
@given(SIZES, st.sampled_from([8, 32]))
def test_mask_is_the_pixels_mask_at_each_cells_corner(sizes: list[tuple[int, int]], stride: int) -> None:
    cells = (HEIGHT // stride, WIDTH // stride)
    mask = content_mask(torch.tensor(sizes, dtype=torch.float32), cells, stride)
    assert mask.shape == (len(sizes), *cells)
    assert mask.flatten(1).any(1).all()
    for found, (height, width) in zip(mask, sizes, strict=True):
        pixels = torch.zeros(HEIGHT, WIDTH)
        pixels[:height, :width] = 1
        assert torch.equal(found, F.interpolate(pixels[None, None], cells)[0, 0] > 0)  # nearest, as transformers does


def test_only_the_right_and_the_bottom_are_padding() -> None:
    image = COLOUR.to(torch.uint8).expand(1, -1, HEIGHT, WIDTH).clone()
    image[:, 1, 40, 50] = 0  # one channel of one pixel; colour of the padding above, left and below of it
    assert content_size(image, COLOUR).tolist() == [[41, 51]]


def test_a_picture_of_the_paddings_colour_is_seen_whole() -> None:
    image = COLOUR.to(torch.uint8).expand(2, -1, HEIGHT, WIDTH)
    assert content_size(image, COLOUR).tolist() == [[HEIGHT, WIDTH]] * 2
