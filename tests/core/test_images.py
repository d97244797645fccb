"""Image loading: any mode becomes RGB, any orientation upright, any size fits the letterbox."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from detector.core.images import (
    ORIENTATION_TAG,
    UNREADABLE,
    apply_orientation,
    letterbox,
    load_letterboxed,
    read_orientation,
    to_rgb,
)

RED, WHITE, FILL = (200, 30, 60), (255, 255, 255), (1, 2, 3)


def solid_image(width: int, height: int) -> Image.Image:
    return Image.new("RGB", (width, height), RED)


def colors_in(image: Image.Image) -> list[tuple[int, ...]]:
    assert image.mode == "RGB"
    colors: Any = image.getcolors()
    return [color for _, color in colors]


def encode(image: Image.Image, format: str, **options: object) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return Image.open(buffer)


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


def test_16_bit_values_keep_the_high_byte() -> None:
    values = np.array([[0, 257, 128 * 257, 65535]], np.uint16)
    assert np.asarray(to_rgb(Image.fromarray(values)))[0, :, 0].tolist() == [0, 1, 128, 255]


def test_16_bit_image_with_8_bit_values_keeps_them() -> None:
    values = np.array([[0, 7, 255]], np.uint16)
    assert np.asarray(to_rgb(Image.fromarray(values)))[0, :, 0].tolist() == [0, 7, 255]


@pytest.mark.parametrize("mode", ["RGB", "L", "P"])
def test_transparent_color_of_a_png_becomes_white(mode: str) -> None:
    image = solid_image(2, 2).convert(mode, palette=Image.Palette.ADAPTIVE)
    opened = encode(image, "PNG", transparency=image.getpixel((0, 0)))
    assert opened.mode == mode
    assert colors_in(to_rgb(opened)) == [WHITE]


MARKED = np.full((4, 6, 3), 255, np.uint8)
MARKED[0, 0] = (255, 0, 0)  # red at the top left, blue at the top right of the upright image
MARKED[0, -1] = (0, 0, 255)
# How a camera stores the upright image, by EXIF orientation.
STORED = {
    1: MARKED,
    2: MARKED[:, ::-1],
    3: MARKED[::-1, ::-1],
    4: MARKED[::-1],
    5: MARKED.transpose(1, 0, 2),
    6: np.rot90(MARKED, 1),
    7: np.rot90(MARKED, 2).transpose(1, 0, 2),
    8: np.rot90(MARKED, -1),
}


def encode_with_orientation(pixels: np.ndarray, value: int, format: str = "PNG", **options: object) -> Image.Image:
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = value
    return encode(Image.fromarray(np.ascontiguousarray(pixels)), format, exif=exif, **options)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("value", range(1, 9))
def test_orientations(value: int, format: str) -> None:
    image = encode_with_orientation(STORED[value], value, format, **({"lossless": True} if format == "WEBP" else {}))
    assert read_orientation(image) == value
    turned = apply_orientation(image)
    assert turned.size == (6, 4)
    np.testing.assert_array_equal(np.asarray(turned), MARKED)


@pytest.mark.parametrize("value", [0, 9, 42, 65535])
def test_invalid_orientation_is_ignored(value: int) -> None:
    image = encode_with_orientation(MARKED, value)
    assert read_orientation(image) == 1
    np.testing.assert_array_equal(np.asarray(apply_orientation(image)), MARKED)


def test_orientation_that_is_not_a_number_is_ignored() -> None:
    image = encode_with_orientation(MARKED, 1)
    image.getexif()[ORIENTATION_TAG] = "6"
    assert read_orientation(image) == 1


def test_broken_exif_is_ignored() -> None:
    image = encode(Image.fromarray(MARKED), "PNG", exif=b"Exif\0\0MM\0*\0\0")
    assert read_orientation(image) == 1
    np.testing.assert_array_equal(np.asarray(apply_orientation(image)), MARKED)


def test_image_without_exif_is_returned_unchanged() -> None:
    image = solid_image(3, 2)
    assert apply_orientation(image) is image


@pytest.mark.parametrize(
    ("image", "size", "content", "scale"),
    [
        ((64, 48), (64, 64), (64, 48), 1.0),
        ((48, 64), (64, 64), (48, 64), 1.0),
        ((640, 480), (64, 64), (64, 48), 0.1),
        ((10, 10), (64, 32), (32, 32), 3.2),
        ((1000, 1), (32, 32), (32, 1), 0.032),
        ((1, 1000), (32, 32), (1, 32), 0.032),
        ((33, 100), (64, 64), (21, 64), 0.64),
    ],
)
def test_letterbox(image: tuple[int, int], size: tuple[int, int], content: tuple[int, int], scale: float) -> None:
    letterboxed = letterbox(solid_image(*image), size, FILL)
    assert letterboxed.pixels.dtype == np.uint8
    assert letterboxed.scale == pytest.approx(scale)
    expected = np.empty((*size, 3), np.uint8)
    expected[:] = FILL
    expected[: content[1], : content[0]] = RED
    np.testing.assert_array_equal(letterboxed.pixels, expected)


@settings(deadline=None, max_examples=50)
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
    assert abs(rows - height * scale) <= 1
    assert abs(columns - width * scale) <= 1
    assert rows == target_height or columns == target_width


def gradient(width: int, height: int) -> Image.Image:
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, 255 - x], 2).astype(np.uint8))


@pytest.mark.parametrize("size", [(64, 64), (60, 80), (31, 47), (240, 320), (479, 639)])
def test_reduced_jpeg_decoding_keeps_size_and_content(tmp_path: Path, size: tuple[int, int]) -> None:
    gradient(640, 480).save(tmp_path / "a.jpg", quality=95)
    small = load_letterboxed(tmp_path / "a.jpg", size, FILL)
    with Image.open(tmp_path / "a.jpg") as image:
        image.load()  # rules out draft decoding
        whole = letterbox(image, size, FILL)
    assert small.pixels.shape == whole.pixels.shape == (*size, 3)
    assert small.scale == whole.scale
    assert np.abs(small.pixels.astype(int) - whole.pixels).max() <= 8


def test_large_jpeg_is_not_decoded_at_full_size() -> None:
    image = encode(gradient(640, 480), "JPEG")
    letterbox(image, (60, 80), FILL)
    assert image.size == (80, 60)


def test_large_gray_jpeg_is_not_decoded_at_full_size() -> None:
    image = encode(Image.new("L", (640, 480), 77), "JPEG")
    pixels, _ = letterbox(image, (60, 80), FILL)
    assert image.size == (80, 60)
    assert (pixels == 77).all()


def test_path_and_opened_image_give_the_same_bytes(tmp_path: Path) -> None:
    gradient(200, 100).save(tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as image:
        opened = letterbox(image, (64, 96), FILL)
    np.testing.assert_array_equal(load_letterboxed(tmp_path / "a.jpg", (64, 96), FILL).pixels, opened.pixels)


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("value", range(1, 9))
def test_rotated_photo_is_letterboxed_upright(value: int, format: str) -> None:
    pixels = np.asarray(gradient(160, 96))
    image = encode_with_orientation(pixels, value, format)
    upright = apply_orientation(encode_with_orientation(pixels, value, format))
    expected = letterbox(Image.fromarray(np.asarray(upright)), (64, 64), RED)  # without EXIF
    found = letterbox(image, (64, 64), RED)
    assert found.scale == expected.scale
    assert np.abs(found.pixels.astype(int) - expected.pixels).mean() < 3  # the JPEG is decoded at reduced size


def test_unreadable_files_raise_a_listed_error(tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("hello")
    gradient(200, 100).save(tmp_path / "cut.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "cut.jpg").read_bytes()[:900])
    for name in ("text.jpg", "cut.jpg", "missing.jpg"):
        with pytest.raises(UNREADABLE):
            load_letterboxed(tmp_path / name, (32, 32), FILL)
