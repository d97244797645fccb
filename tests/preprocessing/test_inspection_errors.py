"""Inspection of truncated, damaged and other unusable files."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from detector.core.images import ORIENTATION_TAG, open_image
from detector.preprocessing import inspection
from detector.preprocessing.findings import FindingKind
from detector.preprocessing.inspection import ImageInfo, inspect_image
from tests.support.preprocess_cases import build_image


def jpeg_bytes(**options: object) -> bytes:
    noise = np.random.default_rng(0).integers(0, 256, (128, 192, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def inspect_bytes(folder: Path, data: bytes) -> ImageInfo:
    path = folder / "a.jpg"
    path.write_bytes(data)
    return inspect_image(path)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.9, 0.999])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}], ids=["plain", "scans", "444"])
def test_a_truncated_jpeg_is_detected(tmp_path: Path, share: float, options: dict[str, object]) -> None:
    data = jpeg_bytes(**options)
    info = inspect_bytes(tmp_path, data[: int(len(data) * share)])
    assert info.finding is FindingKind.TRUNCATED_IMAGE
    assert (info.is_usable, info.needs_conversion) == (False, False)
    assert (info.width, info.height, info.thumbnail) == (0, 0, b"")
    assert inspect_bytes(tmp_path, data).finding is None


@pytest.mark.parametrize("format", ["PNG", "BMP", "TIFF", "WEBP"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.95])
def test_other_truncated_images_are_detected(tmp_path: Path, format: str, share: float) -> None:
    buffer = io.BytesIO()
    with Image.open(io.BytesIO(jpeg_bytes())) as image:
        image.save(buffer, format)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        info = inspect_bytes(tmp_path, buffer.getvalue()[: int(len(buffer.getvalue()) * share)])
    assert info.finding in (FindingKind.TRUNCATED_IMAGE, FindingKind.DAMAGED_IMAGE, FindingKind.NOT_AN_IMAGE)


@pytest.mark.parametrize(
    ("data", "finding"),
    [
        (b"", FindingKind.EMPTY_FILE),
        (b"hello", FindingKind.NOT_AN_IMAGE),
        (b"<html><body>404 Not Found</body></html>", FindingKind.NOT_AN_IMAGE),
        (b"\xff\xd8\xff", FindingKind.NOT_AN_IMAGE),
    ],
)
def test_files_that_are_not_images(tmp_path: Path, data: bytes, finding: FindingKind) -> None:
    info = inspect_bytes(tmp_path, data)
    assert info == ImageInfo(hashlib.sha256(data).hexdigest(), finding=finding, details=info.details)
    assert info.details


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    assert inspect_image(tmp_path / "none.jpg").finding is FindingKind.MISSING_FILE
    (tmp_path / "file").touch()
    for path, details in ((tmp_path, "a folder, not a file"), (tmp_path / "file" / "a.jpg", "Not a directory")):
        assert inspect_image(path) == ImageInfo("", finding=FindingKind.UNREADABLE_FILE, details=details)


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_is_no_file_is_not_read(tmp_path: Path, kind: str) -> None:
    """A pipe would wait for good, and a device may never end."""
    path = tmp_path / "a.jpg"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    info = inspect_image(path)
    assert (info.content, info.finding) == ("", FindingKind.UNREADABLE_FILE)
    assert kind in info.details


def test_a_file_that_is_too_long_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build_image(0).save(tmp_path / "a.png")
    monkeypatch.setattr("detector.core.tar_shards.MAX_IMAGE_BYTES", (tmp_path / "a.png").stat().st_size - 1)
    assert inspect_image(tmp_path / "a.png").finding is FindingKind.UNREADABLE_FILE


@pytest.mark.parametrize(("mode", "name"), [("RGB", "a.png"), ("L", "a.jpg"), ("RGB", "a.jpg")])
def test_a_huge_image_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str, name: str) -> None:
    """A JPEG is inspected at reduced size, but later stages convert and draw it in full."""
    build_image(0).convert(mode).save(tmp_path / name)
    monkeypatch.setattr(inspection, "open_image", partial(open_image, max_memory=96 * 64 * 4 - 1))
    info = inspect_image(tmp_path / name)
    assert info.finding is FindingKind.IMAGE_TOO_LARGE
    assert "96x64" in info.details


def test_a_scan_bomb_is_too_large(tmp_path: Path) -> None:
    data = jpeg_bytes(progressive=True)
    scan = data[data.rindex(b"\xff\xda") : -2]
    info = inspect_bytes(tmp_path, data[:-2] + scan * 1000 + data[-2:])
    assert info.finding is FindingKind.IMAGE_TOO_LARGE
    assert "scans" in info.details


EXIF = Image.Exif()
EXIF[ORIENTATION_TAG] = 6
FORMATS: dict[str, dict[str, Any]] = {
    "JPEG": {"exif": EXIF},
    "PNG": {"exif": EXIF},
    "GIF": {"save_all": True, "append_images": [build_image(1)]},
    "TIFF": {},
    "WEBP": {"exif": EXIF},
    "AVIF": {},
    "BMP": {},
}


def encoded(format: str) -> bytes:
    buffer = io.BytesIO()
    build_image(0, 48, 32).save(buffer, format, **FORMATS[format])
    return buffer.getvalue()


ENCODED = {format: encoded(format) for format in FORMATS}


@settings(max_examples=200)
@given(st.sampled_from(sorted(FORMATS)), st.data())
def test_a_broken_file_never_stops_the_inspection(
    tmp_path_factory: pytest.TempPathFactory, format: str, data: st.DataObject
) -> None:
    broken = bytearray(ENCODED[format])
    for place in data.draw(st.lists(st.integers(0, min(len(broken), 400) - 1), min_size=1, max_size=8)):
        broken[place] = data.draw(st.integers(0, 255))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        info = inspect_bytes(tmp_path_factory.getbasetemp(), bytes(broken))
    assert info.is_usable == bool(info.thumbnail)
