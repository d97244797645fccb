"""What Pillow alone refuses is refused by everything that decodes images; what it accepts is accepted."""

from __future__ import annotations

import contextlib
import io
import itertools
from pathlib import Path

import numpy as np
import pytest
from fastapi import HTTPException
from PIL import Image

from detector.core.images import IMAGE_FORMATS, ImageError, load_letterboxed, load_rgb, open_image
from detector.inference.decoding import DecodedImage, DecodeOptions, UnreadableInput, decode_image
from detector.preprocessing.inspection import convert_image, inspect_image
from detector.runners.model_metadata import ModelMetadata
from detector.serving.decoding import FORMATS, decode_upload
from detector.serving.uploads import Upload
from tests.support.damaged_images import damage, damaged_pngs, encode, turned

INPUT, FILL = (32, 32), (1, 2, 3)
METADATA = ModelMetadata(model="m", classes=["a"], states=[], size=INPUT, fill=FILL, data="")
OPTIONS = DecodeOptions(METADATA, keep_full_size=False, keep_frames=False)
OTHERS = {
    "baseline": encode("RGB", "JPEG"),
    "progressive": encode("RGB", "JPEG", progressive=True, exif=turned()),
    "cmyk": encode("CMYK", "JPEG"),
    "gif": encode("P", "GIF"),
    "bmp": encode("RGB", "BMP"),
    "tiff": encode("RGB", "TIFF", exif=turned()),
    "lzw": encode("RGB", "TIFF", compression="tiff_lzw"),
    "webp": encode("RGB", "WEBP", exif=turned()),
    "avif": encode("RGB", "AVIF"),
    "jp2": encode("RGB", "JPEG2000"),
    "ppm": encode("RGB", "PPM"),
}


def is_accepted_by_pillow(data: bytes) -> bool:
    try:
        with Image.open(io.BytesIO(data), formats=IMAGE_FORMATS) as image:
            image.load()
    except Exception:  # Pillow raises almost any exception for a broken file
        return False
    return True


def check_everything(path: Path, data: bytes) -> bool:
    """Whether the file is accepted, which all agree on."""
    path.write_bytes(data)
    info = inspect_image(path)
    predicted = decode_image(path, OPTIONS)
    if info.is_usable:
        assert info.thumbnail
        assert isinstance(predicted, DecodedImage)
        assert (predicted.width, predicted.height) == (info.width, info.height)
        if open_image(data).format in FORMATS:
            assert decode_upload(Upload("a", data), 1, 10**6, INPUT, FILL)[1:3] == (info.width, info.height)
        assert load_rgb(path).size == (info.width, info.height)
        assert convert_image(data).data
        np.testing.assert_array_equal(predicted.letterboxed.pixels, load_letterboxed(path, INPUT, FILL).pixels)
        return True
    assert info.finding is not None
    assert info.details
    assert isinstance(predicted, UnreadableInput)
    assert predicted.reason
    with pytest.raises(HTTPException) as refused:
        decode_upload(Upload("a", data), 1, 10**6, INPUT, FILL)
    assert refused.value.status_code in (413, 415, 422)
    for load in (load_rgb, lambda path: load_letterboxed(path, INPUT, FILL)):
        with pytest.raises(ImageError) as error:
            load(path)
        assert str(path) in str(error.value)
    with pytest.raises(ImageError):
        convert_image(data)
    return False


def count_refused(path: Path, files: list[bytes]) -> int:
    refused = 0
    for number, data in enumerate(files):
        expected = is_accepted_by_pillow(data)
        assert check_everything(path, data) == expected, f"file {number}"
        refused += not expected
    return refused


def test_damaged_pngs(tmp_path: Path) -> None:
    assert count_refused(tmp_path / "a.png", list(itertools.islice(damaged_pngs(1), 80))) >= 40


@pytest.mark.long
def test_many_damaged_pngs(tmp_path: Path) -> None:
    assert count_refused(tmp_path / "a.png", list(itertools.islice(damaged_pngs(2), 2000))) >= 1000


def test_damaged_files_of_every_format(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    assert count_refused(tmp_path / "a", [damage(data, random) for data in OTHERS.values() for _ in range(5)]) >= 10


@pytest.mark.long
def test_many_damaged_files_of_every_format(tmp_path: Path) -> None:
    random = np.random.default_rng(4)
    assert count_refused(tmp_path / "a", [damage(data, random) for data in OTHERS.values() for _ in range(200)]) >= 400


def test_whole_files_are_accepted(tmp_path: Path) -> None:
    assert count_refused(tmp_path / "a", list(OTHERS.values())) == 0


def passes_when_loaded_twice(data: bytes) -> bool:
    """Asked for EXIF data, Pillow loads a PNG; what that raises it does not always raise when it loads once more."""
    try:
        with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
            with contextlib.suppress(Exception):
                image.getexif()
            image.load()
    except Exception:  # as above
        return False
    return True


def test_a_png_that_passes_when_it_is_loaded_twice() -> None:
    found = (data for data in damaged_pngs(5) if passes_when_loaded_twice(data) and not is_accepted_by_pillow(data))
    for data in itertools.islice(found, 5):
        with pytest.raises(ImageError):
            open_image(data)
