"""Pixels of any mode become RGB, and any size fits the letterbox."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from detector.core.pixels import find_white, letterbox, to_rgb

RED, WHITE, FILL = (200, 30, 60), (255, 255, 255), (1, 2, 3)


def solid_image(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), RED)


def colors_in(image: Image.Image) -> list[tuple[int, ...]]:
    assert image.mode == "RGB"
    colors: Any = image.getcolors()
    return [color for _, color in colors]


def test_rgb_is_not_copied() -> None:
    image = solid_image(2, 2)
    assert to_rgb(image) is image


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("L", (2, 2), 77), (77, 77, 77)),
        (Image.new("1", (2, 2), 1), WHITE),
        (Image.new("1", (2, 2), 0), (0, 0, 0)),
        (solid_image(2, 2).convert("P", palette=Image.Palette.ADAPTIVE), RED),
        (Image.new("RGBA", (2, 2), (*RED, 255)), RED),
        (Image.new("RGBA", (2, 2), (*RED, 0)), WHITE),
        (Image.new("RGBA", (2, 2), (0, 0, 0, 51)), (204, 204, 204)),
        (Image.new("LA", (2, 2), (9, 255)), (9, 9, 9)),
        (Image.new("LA", (2, 2), (9, 0)), WHITE),
        (Image.new("CMYK", (2, 2), (0, 255, 255, 0)), (255, 0, 0)),
        (Image.new("I", (2, 2), 65535), WHITE),
        (Image.new("I", (2, 2), 40), (40, 40, 40)),
        (Image.new("F", (2, 2), 40.4), (40, 40, 40)),
        (Image.new("F", (2, 2), -3.0), (0, 0, 0)),
    ],
)
def test_every_mode_becomes_rgb(image: Image.Image, expected: tuple[int, int, int]) -> None:
    assert colors_in(to_rgb(image)) == [expected]


@pytest.mark.parametrize(
    ("brightest", "white"),
    [(0, 255), (255, 255), (256, 1023), (1023, 1023), (1024, 4095), (4095, 4095), (4096, 16383), (16384, 65535),
     (65535, 65535), (65536, 131071), (2**31 - 1, 2**31 - 1)],
)  # fmt: skip
def test_white_is_the_largest_value_of_the_smallest_depth(brightest: float, white: float) -> None:
    assert find_white(brightest, is_float=False) == white


@pytest.mark.parametrize(("brightest", "white"), [(0, 1), (0.3, 1), (1, 1), (1.5, 255), (255, 255), (300.5, 1023)])
def test_white_of_floating_point_values(brightest: float, white: float) -> None:
    assert find_white(brightest, is_float=True) == white


def reduce(values: np.ndarray) -> list[int]:
    image = to_rgb(Image.fromarray(values))
    assert image.mode == "RGB"
    pixels = np.asarray(image)
    assert (pixels == pixels[..., :1]).all()
    found: list[int] = pixels[0, :, 0].tolist()
    return found


def test_full_16_bit_values_keep_the_high_byte() -> None:
    every = np.arange(65536, dtype=np.uint16)[None]
    assert reduce(every) == np.rint(every[0] / 257).astype(int).tolist()


def test_16_bit_image_with_8_bit_values_keeps_them() -> None:
    assert reduce(np.array([[0, 7, 255]], np.uint16)) == [0, 7, 255]


@pytest.mark.parametrize("depth", [10, 12, 14, 16])
@pytest.mark.parametrize("kind", [np.uint16, np.int32, np.float32])
def test_every_depth_keeps_its_256_levels(depth: int, kind: type) -> None:
    values = np.arange(2**depth, dtype=kind)[None]
    found = reduce(values)
    assert found == sorted(found)
    assert (found[0], found[-1], len(set(found))) == (0, 255, 256)


def test_floating_point_values() -> None:
    assert reduce(np.array([[0, 0.5, 1, -2]], np.float32)) == [0, 128, 255, 0]
    assert reduce(np.array([[np.nan, np.inf, -np.inf, 200]], np.float32)) == [0, 0, 0, 200]
    assert reduce(np.array([[0, 1e30, 5e29]], np.float32))[0] == 0


def test_values_below_0_are_black() -> None:
    assert reduce(np.array([[-5, 0, 4095]], np.int32)) == [0, 0, 255]


def test_large_images_are_reduced_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (50, 30), np.uint16)
    whole = np.asarray(to_rgb(Image.fromarray(values)))
    monkeypatch.setattr("detector.core.pixels._BLOCK_PIXELS", 200)
    np.testing.assert_array_equal(np.asarray(to_rgb(Image.fromarray(values))), whole)


@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_transparent_color_of_a_png_becomes_white(mode: str) -> None:
    image = solid_image(2, 2).convert(mode, palette=Image.Palette.ADAPTIVE)
    file = io.BytesIO()
    image.save(file, "PNG", transparency=image.getpixel((0, 0)))
    opened = Image.open(file)
    assert opened.mode == mode
    assert colors_in(to_rgb(opened)) == [WHITE]


@pytest.mark.parametrize(
    ("image", "size", "content", "scale"),
    [
        ((64, 48), (64, 64), (64, 48), (1.0, 1.0)),
        ((48, 64), (64, 64), (48, 64), (1.0, 1.0)),
        ((640, 480), (64, 64), (64, 48), (0.1, 0.1)),
        ((10, 10), (64, 32), (32, 32), (3.2, 3.2)),
        ((1000, 1), (32, 32), (32, 1), (0.032, 1.0)),
        ((1, 1000), (32, 32), (1, 32), (1.0, 0.032)),
        ((33, 100), (64, 64), (21, 64), (21 / 33, 0.64)),
    ],
)
def test_letterbox(
    image: tuple[int, int], size: tuple[int, int], content: tuple[int, int], scale: tuple[float, float]
) -> None:
    letterboxed = letterbox(solid_image(*image), size, FILL)
    assert letterboxed.pixels.dtype == np.uint8
    assert letterboxed.scale == pytest.approx(scale)
    expected = np.empty((*size, 3), np.uint8)
    expected[:] = FILL
    expected[: content[1], : content[0]] = RED
    np.testing.assert_array_equal(letterboxed.pixels, expected)


@settings(max_examples=50)
@given(*[st.integers(1, 80)] * 4)
def test_letterbox_has_its_size_and_the_image_at_the_top_left(
    width: int, height: int, target_height: int, target_width: int
) -> None:
    pixels, scale = letterbox(solid_image(width, height), (target_height, target_width), FILL)
    assert pixels.shape == (target_height, target_width, 3)
    inside = (pixels == RED).all(2)
    assert inside[0, 0]
    rows, columns = inside.any(1).sum(), inside.any(0).sum()
    assert inside.sum() == rows * columns
    assert (columns, rows) == pytest.approx((width * scale[0], height * scale[1]))
    assert rows == target_height or columns == target_width
