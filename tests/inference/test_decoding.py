"""Image files of every kind, intact or broken, are decoded or reported as unreadable, in order."""

from __future__ import annotations

import io
import struct
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from detector.core.images import ORIENTATION_TAG, load_rgb
from detector.inference.decoding import (
    DecodedImage,
    DecodeOptions,
    UnreadableInput,
    decode_ahead,
    decode_image,
    map_ahead,
)
from detector.inference.inputs import Input
from detector.runners.model_metadata import ModelMetadata
from tests.support.bright_model import make_image

METADATA = ModelMetadata(model="m", classes=["a"], states=[], size=(64, 64), fill=(0, 0, 0), data="")
SMALL, FULL_SIZE = (
    DecodeOptions(METADATA, keep_full_size=False, keep_frames=False),
    DecodeOptions(METADATA, keep_full_size=True, keep_frames=False),
)
SIZE = (128, 96)


def decode(path: Path, options: DecodeOptions = SMALL) -> DecodedImage:
    decoded = decode_image(path, options)
    assert isinstance(decoded, DecodedImage), decoded
    return decoded


def read_reason(path: Path) -> str:
    unreadable = decode_image(path, SMALL)
    assert isinstance(unreadable, UnreadableInput)
    assert unreadable.path == path
    return unreadable.reason


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16"])
def test_every_mode_is_decoded(tmp_path: Path, mode: str) -> None:
    image = make_image(SIZE)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    elif mode == "LAB":
        image = Image.new("LAB", SIZE)
    else:
        image = image.convert("L").convert(mode) if mode in ("I", "F", "LA") else image.convert(mode)
    suffix = "png" if mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16") else "tif"
    if mode != "HSV":
        image.save(tmp_path / f"image.{suffix}")
    else:
        image.convert("RGB").save(tmp_path / "image.tif")
    decoded = decode(tmp_path / f"image.{suffix}")
    assert (decoded.width, decoded.height) == SIZE
    assert decoded.letterboxed.pixels.shape == (64, 64, 3)
    if mode not in ("LAB", "CMYK"):
        assert decoded.letterboxed.pixels[:48].max() == 255, "white stays white"


@pytest.mark.parametrize("name", ["a.bmp", "a.gif", "a.jp2", "a.webp", "a.avif", "a.ppm", "a.png", "a.jpg", "a.tif"])
def test_every_format_is_decoded(tmp_path: Path, name: str) -> None:
    make_image(SIZE).save(tmp_path / name)
    assert decode(tmp_path / name).letterboxed.pixels[:48].max() > 240


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1)])
def test_extreme_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size, "white").save(tmp_path / "image.png")
    for options in (SMALL, FULL_SIZE):
        decoded = decode(tmp_path / "image.png", options)
        assert (decoded.width, decoded.height) == size
        assert decoded.letterboxed.pixels[0, 0].tolist() == [255] * 3


@pytest.mark.parametrize(("orientation", "upright"), [(1, (128, 96)), (3, (128, 96)), (6, (96, 128)), (8, (96, 128))])
def test_exif_orientation_is_applied_to_the_size(tmp_path: Path, orientation: int, upright: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    make_image(SIZE).save(tmp_path / "turned.jpg", exif=exif)
    decoded = decode(tmp_path / "turned.jpg", FULL_SIZE)
    assert (decoded.width, decoded.height) == upright
    assert decoded.image is not None
    assert decoded.image.size == upright
    assert load_rgb(tmp_path / "turned.jpg", at_least=(1000, 1000)).size == upright


@pytest.mark.parametrize("name", ["a.gif", "a.tif", "a.webp", "a.png"])
def test_the_first_of_several_pictures_is_used(tmp_path: Path, name: str) -> None:
    make_image(SIZE).save(
        tmp_path / name, save_all=True, append_images=[make_image(SIZE, white=None, red=(0, 0, 9, 9))]
    )
    decoded = decode(tmp_path / name)
    assert decoded.is_multi_page
    assert decoded.letterboxed.pixels[:48].max() == 255


def test_files_that_are_not_images(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "script.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    assert "empty" in read_reason(tmp_path / "empty.jpg")
    assert "not an image" in read_reason(tmp_path / "text.jpg")
    assert "not an image" in read_reason(tmp_path / "script.jpg"), "PostScript would be executed"
    assert "no such file" in read_reason(tmp_path / "missing.jpg")
    assert "a folder" in read_reason(tmp_path)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.gif", "a.webp", "a.tif", "a.bmp"])
def test_a_truncated_image_is_reported(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) * 2 // 3])
    assert read_reason(tmp_path / name)


def test_12_bit_gray_values_keep_their_range(tmp_path: Path) -> None:
    Image.fromarray(np.asarray(make_image(SIZE).convert("L")).astype(np.uint16) * 16).save(tmp_path / "twelve.png")
    assert decode(tmp_path / "twelve.png").letterboxed.pixels[:48].max() >= 253


def test_an_image_with_too_many_pixels_is_not_decoded(tmp_path: Path) -> None:
    """A small file that claims to be 30,000 x 17,000."""
    make_image(SIZE).save(tmp_path / "bomb.png")
    data = (tmp_path / "bomb.png").read_bytes()
    header = b"IHDR" + struct.pack(">II", 30_000, 17_000) + data[24:29]
    (tmp_path / "bomb.png").write_bytes(data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:])
    assert read_reason(tmp_path / "bomb.png").startswith("30000x17000 pixels")


def test_a_photograph_of_20000_by_20000_pixels(tmp_path: Path) -> None:
    """It is decoded at one eighth of its size."""
    Image.new("L", (20_000, 20_000), "white").save(tmp_path / "large.jpg")
    for decoded in decode_ahead([Input(tmp_path / "large.jpg", "image")] * 2, SMALL, 2, 2):
        assert isinstance(decoded, DecodedImage)
        assert (decoded.width, decoded.height) == (20_000, 20_000)
        assert decoded.letterboxed.scale == (64 / 20_000,) * 2
        assert (decoded.letterboxed.pixels == 255).all()


def test_inputs_stay_in_order_with_unreadable_ones_among_them(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(12)]
    for number, path in enumerate(paths):
        make_image((100 + number, 50)).save(path)
    paths[5].write_text("no")
    decoded = list(decode_ahead([Input(path, "image") for path in paths], SMALL, 3, 4))
    assert [one.path for one in decoded] == paths
    assert [isinstance(one, UnreadableInput) for one in decoded] == [number == 5 for number in range(12)]


def test_no_more_than_max_ahead_items_are_computed_ahead() -> None:
    started: list[int] = []

    def work(number: int) -> int:
        started.append(number)
        time.sleep(0.001 * (number % 3))
        return number

    results = map_ahead(work, iter(range(100)), 3, 4)
    for number in range(20):
        assert next(results) == number
        assert len(started) <= number + 5
    results.close()
    assert len(started) <= 25


def encode_image(suffix: str) -> bytes:
    noise = np.random.default_rng(1).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    target = io.BytesIO()
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = 6
    Image.fromarray(noise).save(target, suffix, exif=exif, **({"progressive": True} if suffix == "jpeg" else {}))
    return target.getvalue()


ENCODED = {suffix: encode_image(suffix) for suffix in ("jpeg", "png")}


@given(
    st.sampled_from(sorted(ENCODED)), st.booleans(), st.integers(0, 10**6),
    st.lists(st.tuples(st.integers(0, 10**6), st.binary(max_size=8), st.integers(0, 8)), min_size=1, max_size=4),
)  # fmt: skip
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.filterwarnings("ignore::Warning:PIL")
def test_a_mutated_file_is_decoded_or_reported(
    tmp_path: Path, suffix: str, full_size: bool, cut: int, changes: list[tuple[int, bytes, int]]
) -> None:
    """Bytes are replaced, inserted and removed, and the end is cut off."""
    data = bytearray(ENCODED[suffix])
    for place, new, old in changes:
        at = place % (len(data) + 1)
        data[at : at + old] = new
    path = tmp_path / "mutated"
    path.write_bytes(data[: len(data) - cut % 100])
    decoded = decode_image(path, FULL_SIZE if full_size else SMALL)
    if isinstance(decoded, DecodedImage):
        assert decoded.letterboxed.pixels.shape == (64, 64, 3)
    else:
        assert decoded.reason
