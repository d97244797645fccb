"""What is found out about an image file: its upright size, what must be changed, and whether it is whole."""

from __future__ import annotations

import hashlib
import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from detector.core.images import ORIENTATION_TAG
from detector.preprocessing.inspection import THUMBNAIL, ImageFacts, inspect, write_changed


def picture(width: int = 96, height: int = 64, seed: int = 0) -> Image.Image:
    """Blocks of random colours: easy to compress, and no two places alike."""
    cells = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return Image.fromarray(cells.repeat(8, 0).repeat(8, 1))


def stored(folder: Path, image: Image.Image, name: str, **options: object) -> Path:
    path = folder / name
    image.save(path, **options)
    return path


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[ORIENTATION_TAG] = orientation
    return tags


def thumbnail(facts: ImageFacts) -> np.ndarray:
    return np.frombuffer(facts.thumbnail, np.uint8).reshape(THUMBNAIL, THUMBNAIL).astype(int)


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
def test_a_good_image_needs_no_change(tmp_path: Path, name: str, options: dict[str, object]) -> None:
    path = stored(tmp_path, picture(), name, **options)
    facts = inspect(path)
    content = hashlib.sha256(path.read_bytes()).hexdigest()
    assert facts == ImageFacts(content, 96, 64, facts.thumbnail)
    grey = picture().convert("L").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    assert np.abs(thumbnail(facts) - np.asarray(grey)).mean() < 4


@pytest.mark.parametrize(
    ("name", "image", "change"),
    [
        ("a.jpg", picture().convert("L"), "mode L"),
        ("a.png", picture().convert("L"), "mode L"),
        ("a.png", picture().convert("1"), "mode 1"),
        ("a.png", picture().convert("P"), "mode P"),
        ("a.gif", picture().convert("P"), "mode P"),
        ("a.png", picture().convert("RGBA"), "mode RGBA"),
        ("a.png", picture().convert("LA"), "mode LA"),
        ("a.jpg", picture().convert("CMYK"), "mode CMYK"),
        ("a.tif", picture().convert("CMYK"), "mode CMYK"),
        ("a.png", Image.fromarray(np.asarray(picture().convert("L")).astype(np.uint16) * 257), "mode I;16"),
        ("a.tif", Image.fromarray(np.asarray(picture().convert("L")).astype(np.float32)), "mode F"),
    ],
)
def test_a_mode_that_must_be_changed(tmp_path: Path, name: str, image: Image.Image, change: str) -> None:
    path = stored(tmp_path, image, name)
    facts = inspect(path)
    assert (facts.change, facts.error, facts.width, facts.height) == (change, "", 96, 64)
    check_written(path, tmp_path / "new", facts)


@pytest.mark.parametrize(
    ("values", "error"),
    [
        (np.full((8, 8), 4095, np.uint16), "16-bit image that uses at most 12 bits"),
        (np.full((8, 8), 0.5, np.float32), "floating-point image with values up to 1"),
    ],
)
def test_grey_values_that_would_turn_black(tmp_path: Path, values: np.ndarray, error: str) -> None:
    assert inspect(stored(tmp_path, Image.fromarray(values), "a.tif")).error == error


def check_written(path: Path, target: Path, facts: ImageFacts) -> np.ndarray:
    """Write the changed image, check that it needs no change and looks the same; returns its pixels."""
    written = write_changed(path, target)
    assert written.parent == target.parent
    assert written.stem == target.stem
    again = inspect(written)
    assert (again.change, again.error) == ("", "")
    assert (again.width, again.height) == (facts.width, facts.height)
    assert np.abs(thumbnail(again) - thumbnail(facts)).max() <= 12
    with Image.open(written) as image:
        assert image.mode == "RGB"
        assert not dict(image.getexif())
        return np.asarray(image)


def test_a_jpeg_stays_a_jpeg_and_all_else_becomes_a_png(tmp_path: Path) -> None:
    jpeg = stored(tmp_path, picture().convert("L"), "a.JPEG")
    tiff = stored(tmp_path, picture().convert("L"), "a.tif")
    assert write_changed(jpeg, tmp_path / "new" / "1") == tmp_path / "new" / "1.jpg"
    assert write_changed(tiff, tmp_path / "new" / "2") == tmp_path / "new" / "2.png"


def test_grey_and_transparent_pixels_are_written_exactly(tmp_path: Path) -> None:
    grey = picture().convert("L")
    written = check_written(stored(tmp_path, grey, "a.png"), tmp_path / "1", inspect(tmp_path / "a.png"))
    np.testing.assert_array_equal(written, np.asarray(grey)[..., None].repeat(3, 2))
    clear = picture().convert("RGBA")
    clear.putalpha(0)
    written = check_written(stored(tmp_path, clear, "b.png"), tmp_path / "2", inspect(tmp_path / "b.png"))
    assert (written == 255).all()


def test_a_transparent_colour_is_laid_on_white(tmp_path: Path) -> None:
    colour = picture().getpixel((0, 0))
    path = stored(tmp_path, picture(), "a.png", transparency=colour)
    facts = inspect(path)
    assert facts.change == "mode RGB with transparency"
    assert check_written(path, tmp_path / "new", facts)[0, 0].tolist() == [255, 255, 255]


def test_a_colour_profile_of_another_mode_is_not_taken_along(tmp_path: Path) -> None:
    path = stored(tmp_path, picture().convert("CMYK"), "a.tif", icc_profile=b"not RGB")
    with Image.open(write_changed(path, tmp_path / "new")) as image:
        assert "icc_profile" not in image.info


# Where the top left corner of the stored picture lies in the upright one: (row, column), 0 or -1.
CORNER = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientations(tmp_path: Path, orientation: int, name: str) -> None:
    image = Image.new("RGB", (96, 64), "white")
    image.paste((0, 0, 0), (0, 0, 16, 16))
    path = stored(tmp_path, image, name, exif=exif(orientation))
    facts = inspect(path)
    assert facts.change == ("" if orientation == 1 else f"EXIF orientation {orientation}")
    assert (facts.width, facts.height) == ((96, 64) if orientation <= 4 else (64, 96))
    assert thumbnail(facts)[CORNER[orientation]] < 10
    assert (thumbnail(facts) < 128).sum() <= 30
    written = check_written(path, tmp_path / "new", facts)
    row, column = CORNER[orientation]
    dark = written.mean(2) < 60
    assert dark[row, column]
    assert dark.sum() == pytest.approx(256, abs=4)
    assert dark[:16][:, :16].sum() + dark[:16][:, -16:].sum() + dark[-16:].sum() >= 250


def test_a_grey_image_lying_on_its_side_is_changed_once(tmp_path: Path) -> None:
    path = stored(tmp_path, picture().convert("L"), "a.jpg", exif=exif(6))
    facts = inspect(path)
    assert facts.change == "EXIF orientation 6"
    assert check_written(path, tmp_path / "new", facts).shape == (96, 64, 3)


@pytest.mark.parametrize("orientation", [0, 9, 300])
def test_an_orientation_that_does_not_exist(tmp_path: Path, orientation: int) -> None:
    facts = inspect(stored(tmp_path, picture(), "a.jpg", exif=exif(orientation)))
    assert (facts.change, facts.width, facts.height) == ("", 96, 64)


def test_broken_exif_does_not_make_an_image_unreadable(tmp_path: Path) -> None:
    path = stored(tmp_path, picture(), "a.jpg", exif=b"Exif\0\0MM\0*\0\0")
    facts = inspect(path)
    assert (facts.change, facts.error, facts.width, facts.height) == ("", "", 96, 64)


def test_a_phones_jpeg_with_a_second_picture_is_used_as_it_is(tmp_path: Path) -> None:
    path = stored(tmp_path, picture(), "a.jpg", format="MPO", save_all=True, append_images=[picture(seed=1)])
    facts = inspect(path)
    assert (facts.change, facts.error) == ("", "")
    turned = stored(
        tmp_path, picture(), "b.jpg", format="MPO", save_all=True, append_images=[picture(seed=1)], exif=exif(6)
    )
    assert inspect(turned).change == "EXIF orientation 6"
    assert write_changed(turned, tmp_path / "new").suffix == ".jpg"


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.tif", "a.webp"])
def test_of_several_frames_the_first_is_used(tmp_path: Path, name: str) -> None:
    frames = [picture(seed=seed) for seed in range(3)]
    path = stored(tmp_path, frames[0], name, save_all=True, append_images=frames[1:])
    facts = inspect(path)
    assert (facts.change, facts.error) == ("several frames, the first is used", "")
    grey = frames[0].convert("L").resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX)
    assert np.abs(thumbnail(facts) - np.asarray(grey)).mean() < 12
    check_written(path, tmp_path / "new", facts)


def jpeg_bytes(**options: object) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (128, 192, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def found_in(folder: Path, data: bytes) -> ImageFacts:
    path = folder / "a.jpg"
    path.write_bytes(data)
    return inspect(path)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.9, 0.999])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}], ids=["plain", "scans", "444"])
def test_a_cut_jpeg_is_found(tmp_path: Path, share: float, options: dict[str, object]) -> None:
    data = jpeg_bytes(**options)
    facts = found_in(tmp_path, data[: int(len(data) * share)])
    assert facts.error == "truncated image"
    assert (facts.width, facts.height, facts.thumbnail) == (0, 0, b"")
    assert found_in(tmp_path, data).error == ""


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_other_cut_images_are_found(tmp_path: Path, format: str, share: float) -> None:
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(jpeg_bytes())) as image:
        image.save(buffer, format)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        facts = found_in(tmp_path, buffer.getvalue()[: int(len(buffer.getvalue()) * share)])
    assert facts.error in ("truncated image", "damaged image", "not an image")


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", "empty file"),
        (b"hello", "not an image"),
        (b"<html><body>404 Not Found</body></html>", "not an image"),
        (b"\xff\xd8\xff", "not an image"),
    ],
)
def test_files_that_are_no_images(tmp_path: Path, data: bytes, error: str) -> None:
    assert found_in(tmp_path, data) == ImageFacts(hashlib.sha256(data).hexdigest(), error=error)


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    assert inspect(tmp_path / "none.jpg") == ImageFacts("", error="missing file")
    assert inspect(tmp_path) == ImageFacts("", error="unreadable file (Is a directory)")
    (tmp_path / "file").touch()
    assert inspect(tmp_path / "file" / "a.jpg") == ImageFacts("", error="unreadable file (Not a directory)")


def test_an_absurdly_large_image_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = stored(tmp_path, picture(), "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 96 * 64 // 3)
    assert inspect(path).error == "image too large"


FORMATS = {
    "JPEG": {"exif": exif(6)},
    "PNG": {"exif": exif(6)},
    "GIF": {"save_all": True, "append_images": [picture(seed=1)]},
    "TIFF": {},
    "WEBP": {"exif": exif(6)},
    "AVIF": {},
    "BMP": {},
}


def encoded(format: str) -> bytes:
    buffer = io.BytesIO()
    picture(48, 32).save(buffer, format, **FORMATS[format])
    return buffer.getvalue()


ENCODED = {format: encoded(format) for format in FORMATS}


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(sorted(FORMATS)), st.data())
def test_no_broken_file_stops_the_inspection(
    tmp_path_factory: pytest.TempPathFactory, format: str, data: st.DataObject
) -> None:
    broken = bytearray(ENCODED[format])
    for place in data.draw(st.lists(st.integers(0, min(len(broken), 400) - 1), min_size=1, max_size=8)):
        broken[place] = data.draw(st.integers(0, 255))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        facts = found_in(tmp_path_factory.getbasetemp(), bytes(broken))
    assert bool(facts.error) != bool(facts.thumbnail)
