"""Image files of every kind and in every condition: seen, or a problem, and always in their order."""

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

from detector.core.images import ORIENTATION_TAG
from detector.inference.decoding import Asked, Problem, Seen, ahead, open_in_full, see, see_all
from detector.inference.inputs import Input
from detector.runners.tiled import ModelMetadata
from tests.support.bright_model import picture

FACTS = ModelMetadata("m", ["a"], [], (64, 64), (0, 0, 0), "")
WHOLE, IN_FULL = Asked(FACTS, pixels=False, frames=False), Asked(FACTS, pixels=True, frames=False)
SIZE = (128, 96)


def good(path: Path, asked: Asked = WHOLE) -> Seen:
    seen = see(path, asked)
    assert isinstance(seen, Seen), seen
    return seen


def reason(path: Path) -> str:
    problem = see(path, WHOLE)
    assert isinstance(problem, Problem)
    assert problem.path == path
    return problem.reason


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "I;16"])
def test_every_mode_is_seen(tmp_path: Path, mode: str) -> None:
    image = picture(SIZE)
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
    seen = good(tmp_path / f"image.{suffix}")
    assert (seen.width, seen.height) == SIZE
    assert seen.view.pixels.shape == (64, 64, 3)
    if mode not in ("LAB", "CMYK"):
        assert seen.view.pixels[:48].max() == 255, "white stays white"


@pytest.mark.parametrize("name", ["a.bmp", "a.gif", "a.jp2", "a.webp", "a.avif", "a.ppm", "a.png", "a.jpg", "a.tif"])
def test_every_format_is_seen(tmp_path: Path, name: str) -> None:
    picture(SIZE).save(tmp_path / name)
    assert good(tmp_path / name).view.pixels[:48].max() > 240


@pytest.mark.parametrize("size", [(1, 1), (1, 3000), (3000, 1)])
def test_extreme_sizes(tmp_path: Path, size: tuple[int, int]) -> None:
    Image.new("RGB", size, "white").save(tmp_path / "image.png")
    for asked in (WHOLE, IN_FULL):
        seen = good(tmp_path / "image.png", asked)
        assert (seen.width, seen.height) == size
        assert seen.view.pixels[0, 0].tolist() == [255] * 3


@pytest.mark.parametrize(("orientation", "upright"), [(1, (128, 96)), (3, (128, 96)), (6, (96, 128)), (8, (96, 128))])
def test_a_turned_photograph_has_its_upright_size(tmp_path: Path, orientation: int, upright: tuple[int, int]) -> None:
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = orientation
    picture(SIZE).save(tmp_path / "turned.jpg", exif=exif)
    seen = good(tmp_path / "turned.jpg", IN_FULL)
    assert (seen.width, seen.height) == upright
    assert seen.image is not None
    assert seen.image.size == upright
    assert open_in_full(tmp_path / "turned.jpg", 1000).size == upright


@pytest.mark.parametrize("name", ["a.gif", "a.tif", "a.webp", "a.png"])
def test_of_several_pictures_the_first_counts(tmp_path: Path, name: str) -> None:
    picture(SIZE).save(tmp_path / name, save_all=True, append_images=[picture(SIZE, white=None, red=(0, 0, 9, 9))])
    seen = good(tmp_path / name)
    assert seen.first_of_many
    assert seen.view.pixels[:48].max() == 255


def test_what_is_no_image(tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("hello")
    (tmp_path / "script.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n")
    assert reason(tmp_path / "empty.jpg") == "empty file"
    assert reason(tmp_path / "text.jpg") == "not an image"
    assert reason(tmp_path / "script.jpg") == "not an image", "PostScript would be run"
    assert reason(tmp_path / "missing.jpg") == "No such file or directory"
    assert reason(tmp_path) == "Is a directory"


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.gif", "a.webp", "a.tif", "a.bmp"])
def test_a_truncated_image_is_told_of(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) * 2 // 3])
    assert reason(tmp_path / name)


def test_grey_values_that_would_turn_black(tmp_path: Path) -> None:
    Image.fromarray(np.asarray(picture(SIZE).convert("L")).astype(np.uint16) * 8).save(tmp_path / "twelve.png")
    assert reason(tmp_path / "twelve.png") == "16-bit image that uses at most 12 bits, which would turn black"


def test_an_image_with_too_many_pixels_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small file that claims to be 30,000 x 17,000."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    picture(SIZE).save(tmp_path / "bomb.png")
    data = (tmp_path / "bomb.png").read_bytes()
    header = b"IHDR" + struct.pack(">II", 30_000, 17_000) + data[24:29]
    (tmp_path / "bomb.png").write_bytes(data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:])
    assert reason(tmp_path / "bomb.png") == "30000x17000 pixels, at most 500 million are decoded"


def test_a_photograph_of_20000_pixels_a_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is decoded at an eighth; and the lock for large images is given back."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    Image.new("L", (20_000, 20_000), "white").save(tmp_path / "large.jpg")
    for seen in see_all([Input(tmp_path / "large.jpg", "image")] * 2, WHOLE, 2, 2):
        assert isinstance(seen, Seen)
        assert (seen.width, seen.height) == (20_000, 20_000)
        assert seen.view.scale == 64 / 20_000
        assert (seen.view.pixels == 255).all()


def test_inputs_come_in_their_order_with_problems_among_them(tmp_path: Path) -> None:
    paths = [tmp_path / f"{number}.png" for number in range(12)]
    for number, path in enumerate(paths):
        picture((100 + number, 50)).save(path)
    paths[5].write_text("no")
    seen = list(see_all([Input(path, "image") for path in paths], WHOLE, 3, 4))
    assert [one.path for one in seen] == paths
    assert [isinstance(one, Problem) for one in seen] == [number == 5 for number in range(12)]


def test_no_more_is_done_ahead_than_asked_for() -> None:
    started: list[int] = []

    def work(number: int) -> int:
        started.append(number)
        time.sleep(0.001 * (number % 3))
        return number

    results = ahead(work, iter(range(100)), 3, 4)
    for number in range(20):
        assert next(results) == number
        assert len(started) <= number + 5
    results.close()
    assert len(started) <= 25


def encoded(suffix: str) -> bytes:
    noise = np.random.default_rng(1).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    target = io.BytesIO()
    exif = Image.Exif()
    exif[ORIENTATION_TAG] = 6
    Image.fromarray(noise).save(target, suffix, exif=exif, **({"progressive": True} if suffix == "jpeg" else {}))
    return target.getvalue()


ENCODED = {suffix: encoded(suffix) for suffix in ("jpeg", "png")}


@given(
    st.sampled_from(sorted(ENCODED)), st.booleans(), st.integers(0, 10**6),
    st.lists(st.tuples(st.integers(0, 10**6), st.binary(max_size=8), st.integers(0, 8)), min_size=1, max_size=4),
)  # fmt: skip
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.filterwarnings("ignore::Warning:PIL")
def test_a_mutated_file_is_seen_or_told_of(
    tmp_path: Path, suffix: str, in_full: bool, cut: int, changes: list[tuple[int, bytes, int]]
) -> None:
    """Bytes put in place of others, inserted and removed, and the end cut off."""
    data = bytearray(ENCODED[suffix])
    for place, new, old in changes:
        at = place % (len(data) + 1)
        data[at : at + old] = new
    path = tmp_path / "mutated"
    path.write_bytes(data[: len(data) - cut % 100])
    seen = see(path, IN_FULL if in_full else WHOLE)
    if isinstance(seen, Seen):
        assert seen.view.pixels.shape == (64, 64, 3)
    else:
        assert seen.reason
