"""Image files: any orientation becomes upright, a JPEG is decoded as small as it is needed, limits are kept."""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from detector.core.images import (
    IMAGE_FORMATS,
    IMAGE_SUFFIXES,
    ORIENTATION_TAG,
    ImageError,
    load_letterboxed,
    load_rgb,
    open_image,
    read_orientation,
)
from detector.core.pixels import letterbox

RED, FILL = (200, 30, 60), (1, 2, 3)


def encode(image: Image.Image, format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


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


def encode_with_orientation(pixels: np.ndarray, value: int, format: str = "PNG", **options: object) -> bytes:
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = value
    return encode(Image.fromarray(np.ascontiguousarray(pixels)), format, exif=exif, **options)


@pytest.mark.parametrize("format", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("value", range(1, 9))
def test_orientations(value: int, format: str) -> None:
    lossless = {"lossless": True} if format == "WEBP" else {}
    image = open_image(encode_with_orientation(STORED[value], value, format, **lossless))
    assert (image.orientation, image.width, image.height) == (value, 6, 4)
    np.testing.assert_array_equal(np.asarray(image.decode()), MARKED)


@pytest.mark.parametrize("value", [0, 9, 42, 65535])
def test_invalid_orientation_is_ignored(value: int) -> None:
    image = open_image(encode_with_orientation(MARKED, value))
    assert image.orientation == 1
    np.testing.assert_array_equal(np.asarray(image.decode()), MARKED)


def test_orientation_that_is_not_a_number_is_ignored() -> None:
    image = Image.open(io.BytesIO(encode_with_orientation(MARKED, 1)))
    image.getexif()[ORIENTATION_TAG] = "6"
    assert read_orientation(image) == 1


def test_broken_exif_is_ignored() -> None:
    image = open_image(encode(Image.fromarray(MARKED), "PNG", exif=b"Exif\0\0MM\0*\0\0"))
    assert image.orientation == 1
    np.testing.assert_array_equal(np.asarray(image.decode()), MARKED)


def test_a_decoded_image_has_no_metadata() -> None:
    """Otherwise a drawing saved from it would carry the camera's profile."""
    assert open_image(encode_with_orientation(MARKED, 6)).decode().info == {}


def gradient(width: int, height: int) -> Image.Image:
    x, y = np.meshgrid(np.linspace(0, 255, width), np.linspace(0, 255, height))
    return Image.fromarray(np.stack([x, y, 255 - x], 2).astype(np.uint8))


@pytest.mark.parametrize("size", [(64, 64), (60, 80), (31, 47), (240, 320), (479, 639)])
def test_reduced_jpeg_decoding_keeps_size_and_content(size: tuple[int, int]) -> None:
    data = encode(gradient(640, 480), "JPEG", quality=95)
    small = open_image(data).letterbox(size, FILL)
    whole = letterbox(open_image(data).decode(), size, FILL)
    assert small.pixels.shape == whole.pixels.shape == (*size, 3)
    assert small.scale == whole.scale
    assert np.abs(small.pixels.astype(int) - whole.pixels).max() <= 8


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_large_jpeg_is_not_decoded_at_full_size(mode: str) -> None:
    image = open_image(encode(gradient(640, 480).convert(mode), "JPEG"))
    assert image.decode(at_least=(80, 60)).size == (80, 60)
    assert (image.width, image.height) == (640, 480)


def test_path_and_bytes_give_the_same_pixels(tmp_path: Path) -> None:
    gradient(200, 100).save(tmp_path / "a.jpg")
    opened = open_image((tmp_path / "a.jpg").read_bytes()).letterbox((64, 96), FILL)
    np.testing.assert_array_equal(load_letterboxed(tmp_path / "a.jpg", (64, 96), FILL).pixels, opened.pixels)


@pytest.mark.parametrize("load", [load_rgb, partial(load_letterboxed, size=(32, 32), fill=FILL)])
def test_annotations_are_for_the_size_of_the_upright_image(tmp_path: Path, load: Callable[..., object]) -> None:
    path = tmp_path / "turned.jpg"
    path.write_bytes(encode_with_orientation(np.asarray(gradient(160, 96)), 6, "JPEG"))
    size = open_image(path).width, open_image(path).height
    load(path, expected_size=size)
    with pytest.raises(ImageError, match=rf"{path}: .* has {size[0]}x{size[1]} pixels, .* annotations are for 9x160"):
        load(path, expected_size=(9, 160))


@pytest.mark.parametrize("format", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize("value", range(1, 9))
def test_rotated_photo_is_letterboxed_upright(value: int, format: str) -> None:
    data = encode_with_orientation(np.asarray(gradient(160, 96)), value, format)
    expected = letterbox(open_image(data).decode(), (64, 64), RED)
    found = open_image(data).letterbox((64, 64), RED)
    assert found.scale == expected.scale
    assert np.abs(found.pixels.astype(int) - expected.pixels).mean() < 3  # the JPEG is decoded at reduced size


@pytest.mark.parametrize("name", ["text.jpg", "cut.jpg", "missing.jpg", "empty.jpg", "folder.jpg", "a\0b.jpg"])
def test_errors_name_the_file_and_the_reason(tmp_path: Path, name: str) -> None:
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "cut.jpg").write_bytes(encode(gradient(200, 100), "JPEG")[:900])
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder.jpg").mkdir()
    expected = {"text.jpg": "not_an_image", "cut.jpg": "truncated", "empty.jpg": "empty", "folder.jpg": "unreadable"}
    with pytest.raises(ImageError) as error:
        load_letterboxed(tmp_path / name, (32, 32), FILL)
    assert error.value.problem == expected.get(name, "missing")
    assert error.value.reason
    assert str(tmp_path / name) in str(error.value)


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES - {".pfm", ".pjpeg", ".pjp"}))
def test_every_suffix_is_that_of_an_accepted_format(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    gradient(20, 10).convert("1" if suffix == ".pbm" else "RGB").save(path)
    assert load_rgb(path).size == (20, 10)


def test_other_formats_are_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow would start Ghostscript for the first one, whatever its name."""
    monkeypatch.setattr("subprocess.check_call", None)
    for name, format in (("eps.jpg", "EPS"), ("pcx.png", "PCX")):
        (tmp_path / name).write_bytes(encode(gradient(20, 10), format))
        with pytest.raises(ImageError) as error:
            load_rgb(tmp_path / name)
        assert error.value.problem == "not_an_image"


def test_formats_can_be_fewer() -> None:
    data = encode(gradient(20, 10), "BMP")
    assert open_image(data, formats=("BMP",)).format == "BMP"
    with pytest.raises(ImageError):
        open_image(data, formats=("JPEG",))


def test_all_formats_are_known_to_pillow() -> None:
    Image.init()
    assert set(Image.OPEN) >= set(IMAGE_FORMATS)


@pytest.mark.parametrize("format", ["GIF", "TIFF", "WEBP", "PNG"])
def test_the_first_of_several_pictures_is_used(format: str) -> None:
    pictures = [Image.new("RGB", (8, 8), color) for color in ("white", "black", "red")]
    image = open_image(encode(pictures[0], format, save_all=True, append_images=pictures[1:]))
    assert image.frames == 3
    assert np.asarray(image.decode()).min() == 255


def test_a_jpeg_with_a_second_picture_is_a_jpeg() -> None:
    """As phones write them, such as depth maps."""
    image = open_image(encode(gradient(64, 48), "MPO", save_all=True, append_images=[gradient(32, 24)]))
    assert (image.is_jpeg, image.frames, image.width, image.height) == (True, 1, 64, 48)
    assert image.decode(at_least=(8, 6)).size == (8, 6)


def png_with_metadata(size: int, *, profile: bool) -> bytes:
    """size: bytes of text or of a color profile, which hardly take space in the file."""
    if profile:
        return encode(gradient(20, 10), "PNG", icc_profile=bytes(size))
    text = PngInfo()
    text.add_text("workflow", "x" * size, zip=True)
    return encode(gradient(20, 10), "PNG", pnginfo=text)


@pytest.mark.parametrize("profile", [True, False])
def test_a_png_with_much_metadata_is_decoded(profile: bool) -> None:
    data = png_with_metadata(10_000_000, profile=profile)
    assert len(data) < 100_000
    np.testing.assert_array_equal(np.asarray(open_image(data).decode()), np.asarray(gradient(20, 10)))


@pytest.mark.parametrize("profile", [True, False])
def test_metadata_are_bounded(profile: bool) -> None:
    with pytest.raises(ImageError, match="MAX_TEXT_CHUNK"):
        open_image(png_with_metadata(20_000_000, profile=profile))


def test_limits_are_checked_before_the_pixels_are_decoded() -> None:
    """A file of 16-bit gray of which nothing but the header is there."""
    data = encode(Image.fromarray(np.zeros((100, 100), np.uint16)), "PNG")
    cut = data[: data.index(b"IDAT") + 8]
    for open_limited in (partial(open_image, max_memory=100_000), partial(open_image, max_pixels=9_999)):
        with pytest.raises(ImageError, match="100x100") as error:
            open_limited(cut)
        assert error.value.problem == "too_large"
    assert open_image(data, max_memory=120_000, max_pixels=10_000).width == 100


def test_a_jpeg_may_be_larger_than_what_is_decoded() -> None:
    data = encode(gradient(640, 480), "JPEG")
    assert open_image(data, max_memory=100_000).letterbox((60, 80), FILL).pixels.shape == (60, 80, 3)
    for decode in (open_image(data, max_memory=100_000).decode, open_image(data, max_memory=100_000).check_full_size):
        with pytest.raises(ImageError, match="640x480"):
            decode()
