"""Inspection of image files: upright size and necessary conversions."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detector.core.images import ORIENTATION_TAG
from detector.preprocessing.findings import FindingKind
from detector.preprocessing.inspection import THUMBNAIL_SIZE, ImageInfo, convert_image, inspect_image
from tests.support.preprocess_cases import build_image


def save(folder: Path, image: Image.Image, name: str, **options: Any) -> Path:
    path = folder / name
    image.save(path, **options)
    return path


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[ORIENTATION_TAG] = orientation
    return tags


def thumbnail(info: ImageInfo) -> np.ndarray:
    return np.frombuffer(info.thumbnail, np.uint8).reshape(THUMBNAIL_SIZE, THUMBNAIL_SIZE).astype(int)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("a.jpg", {}),
        ("a.jpg", {"progressive": True}),
        ("a.jpg", {"exif": exif(1)}),
        ("a.png", {}),
        ("a.bmp", {}),
        ("a.tif", {}),
        ("a.tif", {"compression": "tiff_lzw"}),
        ("a.webp", {}),
    ],
)
def test_a_valid_image_needs_no_conversion(tmp_path: Path, name: str, options: dict[str, object]) -> None:
    path = save(tmp_path, build_image(0), name, **options)
    info = inspect_image(path)
    content = hashlib.sha256(path.read_bytes()).hexdigest()
    assert info == ImageInfo(content, 96, 64, info.thumbnail)
    assert (info.is_usable, info.needs_conversion) == (True, False)
    gray = build_image(0).convert("L").resize((THUMBNAIL_SIZE, THUMBNAIL_SIZE), Image.Resampling.BOX)
    assert np.abs(thumbnail(info) - np.asarray(gray)).mean() < 4


@pytest.mark.parametrize(
    ("name", "image", "mode"),
    [
        ("a.jpg", build_image(0).convert("L"), "mode L"),
        ("a.png", build_image(0).convert("L"), "mode L"),
        ("a.png", build_image(0).convert("1"), "mode 1"),
        ("a.png", build_image(0).convert("P"), "mode P"),
        ("a.gif", build_image(0).convert("P"), "mode P"),
        ("a.png", build_image(0).convert("RGBA"), "mode RGBA"),
        ("a.png", build_image(0).convert("LA"), "mode LA"),
        ("a.jpg", build_image(0).convert("CMYK"), "mode CMYK"),
        ("a.tif", build_image(0).convert("CMYK"), "mode CMYK"),
        ("a.png", Image.fromarray(np.asarray(build_image(0).convert("L")).astype(np.uint16) * 257), "mode I;16"),
        ("a.tif", Image.fromarray(np.asarray(build_image(0).convert("L")).astype(np.float32)), "mode F"),
    ],
)
def test_modes_that_are_converted(tmp_path: Path, name: str, image: Image.Image, mode: str) -> None:
    path = save(tmp_path, image, name)
    info = inspect_image(path)
    assert (info.finding, info.details) == (FindingKind.IMAGE_CONVERTED, mode)
    assert (info.is_usable, info.needs_conversion) == (True, True)
    assert (info.width, info.height) == (96, 64)
    check_written(path, tmp_path / "new", info)


@pytest.mark.parametrize("values", [np.full((8, 8), 4095, np.uint16), np.full((8, 8), 1, np.float32)])
def test_gray_values_keep_their_range(tmp_path: Path, values: np.ndarray) -> None:
    path = save(tmp_path, Image.fromarray(values), "a.tif")
    info = inspect_image(path)
    assert info.finding is FindingKind.IMAGE_CONVERTED
    assert (check_written(path, tmp_path / "new", info) == 255).all()


def write_converted(path: Path, target: Path) -> Path:
    converted = convert_image(path.read_bytes())
    target = target.with_suffix(converted.suffix)
    target.write_bytes(converted.data)
    return target


def check_written(path: Path, target: Path, info: ImageInfo) -> np.ndarray:
    """Write the converted image, check that it needs no conversion and looks the same; returns its pixels."""
    written = write_converted(path, target)
    again = inspect_image(written)
    assert again.finding is None
    assert (again.width, again.height) == (info.width, info.height)
    assert np.abs(thumbnail(again) - thumbnail(info)).max() <= 12
    with Image.open(written) as image:
        assert image.mode == "RGB"
        assert not dict(image.getexif())
        return np.asarray(image)


def test_a_jpeg_remains_a_jpeg_and_other_formats_become_a_png(tmp_path: Path) -> None:
    jpeg = save(tmp_path, build_image(0).convert("L"), "a.JPEG")
    tiff = save(tmp_path, build_image(0).convert("L"), "a.tif")
    assert write_converted(jpeg, tmp_path / "1") == tmp_path / "1.jpg"
    assert write_converted(tiff, tmp_path / "2") == tmp_path / "2.png"


def test_gray_and_transparent_pixels_are_written_exactly(tmp_path: Path) -> None:
    gray = build_image(0).convert("L")
    written = check_written(save(tmp_path, gray, "a.png"), tmp_path / "1", inspect_image(tmp_path / "a.png"))
    np.testing.assert_array_equal(written, np.asarray(gray)[..., None].repeat(3, 2))
    clear = build_image(0).convert("RGBA")
    clear.putalpha(0)
    written = check_written(save(tmp_path, clear, "b.png"), tmp_path / "2", inspect_image(tmp_path / "b.png"))
    assert (written == 255).all()


def test_a_transparent_color_is_composited_onto_white(tmp_path: Path) -> None:
    color = build_image(0).getpixel((0, 0))
    path = save(tmp_path, build_image(0), "a.png", transparency=color)
    info = inspect_image(path)
    assert (info.finding, info.details) == (FindingKind.IMAGE_CONVERTED, "mode RGB with transparency")
    assert check_written(path, tmp_path / "new", info)[0, 0].tolist() == [255, 255, 255]


def test_the_color_profile_of_another_mode_is_not_copied(tmp_path: Path) -> None:
    path = save(tmp_path, build_image(0).convert("CMYK"), "a.tif", icc_profile=b"not RGB")
    with Image.open(write_converted(path, tmp_path / "new")) as image:
        assert "icc_profile" not in image.info


# Where the top left corner of the stored image lies in the upright image: (row, column), 0 or -1.
CORNER = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations(tmp_path: Path, orientation: int, name: str) -> None:
    image = Image.new("RGB", (96, 64), "white")
    image.paste((0, 0, 0), (0, 0, 16, 16))
    path = save(tmp_path, image, name, exif=exif(orientation))
    info = inspect_image(path)
    assert info.finding is (None if orientation == 1 else FindingKind.IMAGE_REORIENTED)
    assert info.details == ("" if orientation == 1 else f"EXIF orientation {orientation}")
    assert (info.width, info.height) == ((96, 64) if orientation <= 4 else (64, 96))
    assert thumbnail(info)[CORNER[orientation]] < 10
    assert (thumbnail(info) < 128).sum() <= 30
    written = check_written(path, tmp_path / "new", info)
    row, column = CORNER[orientation]
    dark = written.mean(2) < 60
    assert dark[row, column]
    assert dark.sum() == pytest.approx(256, abs=4)
    assert dark[:16][:, :16].sum() + dark[:16][:, -16:].sum() + dark[-16:].sum() >= 250


def test_a_gray_rotated_image_is_converted_once(tmp_path: Path) -> None:
    path = save(tmp_path, build_image(0).convert("L"), "a.jpg", exif=exif(6))
    info = inspect_image(path)
    assert (info.finding, info.details) == (FindingKind.IMAGE_REORIENTED, "EXIF orientation 6")
    assert check_written(path, tmp_path / "new", info).shape == (96, 64, 3)


@pytest.mark.parametrize("orientation", [0, 9, 300])
def test_invalid_orientations(tmp_path: Path, orientation: int) -> None:
    info = inspect_image(save(tmp_path, build_image(0), "a.jpg", exif=exif(orientation)))
    assert (info.finding, info.width, info.height) == (None, 96, 64)


def test_an_image_with_broken_exif_is_readable(tmp_path: Path) -> None:
    path = save(tmp_path, build_image(0), "a.jpg", exif=b"Exif\0\0MM\0*\0\0")
    info = inspect_image(path)
    assert (info.finding, info.width, info.height) == (None, 96, 64)


def test_a_phone_jpeg_with_a_second_image_needs_no_conversion(tmp_path: Path) -> None:
    path = save(tmp_path, build_image(0), "a.jpg", format="MPO", save_all=True, append_images=[build_image(1)])
    assert inspect_image(path).finding is None
    turned = save(
        tmp_path, build_image(0), "b.jpg", format="MPO", save_all=True, append_images=[build_image(1)], exif=exif(6)
    )
    assert inspect_image(turned).details == "EXIF orientation 6"
    assert write_converted(turned, tmp_path / "new").suffix == ".jpg"


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.tif", "a.webp"])
def test_the_first_of_several_frames_is_used(tmp_path: Path, name: str) -> None:
    frames = [build_image(seed) for seed in range(3)]
    path = save(tmp_path, frames[0], name, save_all=True, append_images=frames[1:])
    info = inspect_image(path)
    assert (info.finding, info.details) == (FindingKind.FIRST_FRAME_USED, "3 frames")
    gray = frames[0].convert("L").resize((THUMBNAIL_SIZE, THUMBNAIL_SIZE), Image.Resampling.BOX)
    assert np.abs(thumbnail(info) - np.asarray(gray)).mean() < 12
    check_written(path, tmp_path / "new", info)


@pytest.mark.parametrize(
    "info",
    [
        ImageInfo("00", 8, 6, b"\0\xff"),
        ImageInfo("00", 8, 6, b"\0\xff", FindingKind.IMAGE_CONVERTED, "mode L"),
        ImageInfo("", finding=FindingKind.MISSING_FILE),
    ],
)
def test_a_row_has_built_in_types_and_is_invertible(info: ImageInfo) -> None:
    assert {type(value) for value in info.to_row()} == {str, int, bytes}
    assert ImageInfo.from_row(info.to_row()) == info
