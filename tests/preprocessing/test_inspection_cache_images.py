"""Converted images are kept by content, and a kept one is used only as it was written."""

from __future__ import annotations

import errno
import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.core.errors import UserError
from detector.preprocessing import inspection_cache as module
from detector.preprocessing.inspection import ConvertedImage, inspect_image
from detector.preprocessing.inspection_cache import VERSION, convert_cached
from tests.support.damaged_images import damage as damaged

EMPTY = hashlib.sha256(b"").hexdigest()


@pytest.fixture
def gray(tmp_path: Path) -> Path:
    path = tmp_path / "gray.jpg"
    Image.new("L", (8, 6), 99).save(path)
    return path


def convert(source: Path, target: Path, cache: Path) -> Path:
    return convert_cached(source, hashlib.sha256(source.read_bytes()).hexdigest(), target, cache)


def kept_files(cache: Path) -> list[Path]:
    return [path for path in cache.rglob("*") if path.is_file()]


def test_an_image_is_converted_once(gray: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = convert(gray, tmp_path / "clean" / "1", tmp_path / "cache")
    assert first == tmp_path / "clean" / "1.jpg"
    monkeypatch.setattr(module, "convert_image", None)
    second = convert(gray, tmp_path / "other" / "2", tmp_path / "cache")
    assert second == tmp_path / "other" / "2.jpg"
    assert first.read_bytes() == second.read_bytes()
    assert inspect_image(first).finding is None


def test_other_content_and_other_versions_are_converted_again(
    gray: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert(gray, tmp_path / "1", tmp_path / "cache")
    white = tmp_path / "white.png"
    Image.new("L", (8, 6), 255).save(white)
    assert convert(white, tmp_path / "2", tmp_path / "cache") == tmp_path / "2.png"
    assert len(kept_files(tmp_path / "cache")) == 2
    monkeypatch.setattr(module, "VERSION", f"{VERSION}-next")
    convert(white, tmp_path / "3", tmp_path / "cache")
    assert len(kept_files(tmp_path / "cache")) == 3


def test_a_conversion_that_cannot_be_cached(gray: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for _ in range(2):
        assert inspect_image(convert(gray, tmp_path / "1", tmp_path / "file" / "cache")).width == 8


def test_an_image_that_changed_after_its_inspection_is_not_converted(gray: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gray\.jpg changed"):
        convert_cached(gray, EMPTY, tmp_path / "1", tmp_path / "cache")
    assert not kept_files(tmp_path / "cache")


def test_an_interrupted_conversion_is_not_cached(gray: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(data: bytes) -> ConvertedImage:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "convert_image", interrupted)
    with pytest.raises(KeyboardInterrupt):
        convert(gray, tmp_path / "1", tmp_path / "cache")
    assert not kept_files(tmp_path / "cache")


def test_a_full_disk_leaves_no_file(gray: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every write ends early, as on a disk that is almost full."""
    written = Path.write_bytes

    def short(self: Path, data: bytes) -> int:
        written(self, data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", short)
        with pytest.raises(OSError, match="No space"):
            convert(gray, tmp_path / "clean" / "1", tmp_path / "cache")
    assert not kept_files(tmp_path / "clean")
    assert not kept_files(tmp_path / "cache")
    assert inspect_image(convert(gray, tmp_path / "clean" / "1", tmp_path / "cache")).finding is None


def check_damaged_copies(folder: Path, seed: int, times: int) -> None:
    """Damage a kept copy again and again: each time the image is converted anew, and the copy is whole again."""
    random = np.random.default_rng(seed)
    for name in ("photo.jpg", "drawing.png"):
        Image.fromarray(random.integers(0, 256, (32, 24), np.uint8)).save(folder / name)
        expected = convert(folder / name, folder / "1", folder / name[:-4]).read_bytes()
        (kept,) = kept_files(folder / name[:-4])
        whole = kept.read_bytes()
        for _ in range(times):
            kept.write_bytes(damaged(whole, random))
            assert convert(folder / name, folder / "2", folder / name[:-4]).read_bytes() == expected
            assert kept.read_bytes() == whole


def test_damaged_copies_only_cost_time(tmp_path: Path) -> None:
    check_damaged_copies(tmp_path, 1, 20)


@pytest.mark.long
def test_many_damaged_copies_only_cost_time(tmp_path: Path) -> None:
    check_damaged_copies(tmp_path, 2, 300)


def test_a_copy_of_another_image_is_not_used(gray: Path, tmp_path: Path) -> None:
    white = tmp_path / "white.jpg"
    Image.new("L", (8, 6), 255).save(white)
    expected = convert(white, tmp_path / "1", tmp_path / "cache").read_bytes()
    (of_white,) = kept_files(tmp_path / "cache")
    convert(gray, tmp_path / "2", tmp_path / "cache")
    (of_gray,) = set(kept_files(tmp_path / "cache")) - {of_white}
    of_white.write_bytes(of_gray.read_bytes())
    assert convert(white, tmp_path / "3", tmp_path / "cache").read_bytes() == expected
