"""Memory and time are known before an image is decoded."""

from __future__ import annotations

import io
import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.core.image_limits import MAX_PROFILES, MAX_SCANS, count_profiles, count_scans
from detector.core.images import ImageError, open_image
from tests.support.damaged_images import SIZE, encode, png_chunk, turned

PROGRESSIVE = encode("RGB", "JPEG", progressive=True)
MEASURE = """
import json, sys
from pathlib import Path
from detector.core import images

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))

class Noting(images.OpenedImage):
    def _check_memory(self, size):
        memory = super()._check_memory(size)
        estimates.append(memory)
        return memory

estimates, images.OpenedImage = [], Noting
data = Path(sys.argv[1]).read_bytes()
Path("/proc/self/clear_refs").write_text("5")
before = peak()
images.open_image(data).decode()
print(json.dumps([(peak() - before) * 1024, max(estimates)]))
"""


def with_scans(count: int) -> bytes:
    """A JPEG whose last scan comes again and again."""
    last = PROGRESSIVE[PROGRESSIVE.rindex(b"\xff\xda") : -2]
    return PROGRESSIVE[:-2] + last * (count - count_scans(PROGRESSIVE)) + PROGRESSIVE[-2:]


def test_scans_are_counted() -> None:
    assert count_scans(encode("RGB", "JPEG")) == 1
    assert 5 < count_scans(PROGRESSIVE) < 20
    assert count_scans(with_scans(77)) == 77


def test_what_only_looks_like_a_scan_is_not_counted() -> None:
    fake = b"\xff\xda" * 500
    baseline = encode("RGB", "JPEG", comment=fake)
    assert fake in baseline
    assert count_scans(baseline) == 1
    assert count_scans(baseline + fake) == 1, "such as a video at the end, as phones append it"


def test_a_jpeg_of_many_scans_is_refused_at_once() -> None:
    assert open_image(with_scans(MAX_SCANS)).decode().size == SIZE
    with pytest.raises(ImageError, match="12000 scans") as error:
        open_image(with_scans(12_000))
    assert error.value.problem == "too_large"


def test_a_png_with_many_color_profiles_is_refused_at_once() -> None:
    """Each of them is unpacked: 6 MB of them took half a minute."""
    data = encode("RGB", "PNG")
    profile = png_chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(1000)))
    assert count_profiles(data[:33] + profile * MAX_PROFILES + data[33:]) == MAX_PROFILES
    with pytest.raises(ImageError, match="color profiles"):
        open_image(data[:33] + profile * (MAX_PROFILES + 1) + data[33:])


def test_a_progressive_jpeg_takes_the_memory_of_its_full_size() -> None:
    file = io.BytesIO()
    Image.new("RGB", (640, 480)).save(file, "JPEG", progressive=True)
    with pytest.raises(ImageError, match="640x480"):
        open_image(file.getvalue(), max_memory=640 * 480 * 6).decode(at_least=(80, 60))


def tiff_with_tile(side: int, pixels: bytes) -> bytes:
    """A gray TIFF of 64x64 pixels in one compressed tile of side x side."""
    tags = [(256, 64), (257, 64), (258, 8), (259, 8), (262, 1), (277, 1), (322, side), (323, side), (324, 134)]
    tags.append((325, len(pixels)))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(4) + pixels


def test_a_tile_may_be_larger_than_the_image() -> None:
    assert open_image(tiff_with_tile(64, zlib.compress(bytes(64 * 64)))).decode().size == (64, 64)
    with pytest.raises(ImageError) as error:
        open_image(tiff_with_tile(30_720, zlib.compress(bytes(10_000))))
    assert error.value.problem == "too_large"


def large_files() -> dict[str, tuple[Image.Image, str, dict[str, object]]]:
    rgb = Image.new("RGB", (3000, 3000), (90, 120, 30))
    gray = np.full((3000, 3000), 40_000)
    return {
        "gray": (rgb.convert("L"), "PNG", {}),
        "palette": (rgb.convert("P"), "PNG", {}),
        "rgb": (rgb, "PNG", {}),
        "rgba": (rgb.convert("RGBA"), "PNG", {}),
        "gray alpha": (rgb.convert("L").convert("LA"), "PNG", {}),
        "transparent": (rgb, "PNG", {"transparency": (1, 2, 3)}),
        "turned": (rgb, "PNG", {"exif": turned()}),
        "16 bit": (Image.fromarray(gray.astype(np.uint16)), "PNG", {}),
        "32 bit": (Image.fromarray(gray.astype(np.int32)), "TIFF", {}),
        "float": (Image.fromarray(gray.astype(np.float32)), "TIFF", {}),
        "cmyk": (rgb.convert("CMYK"), "TIFF", {}),
        "lzw": (rgb, "TIFF", {"compression": "tiff_lzw"}),
        "jpeg": (rgb, "JPEG", {"exif": turned()}),
        "progressive": (rgb, "JPEG", {"progressive": True, "subsampling": 0}),
        "webp": (rgb, "WEBP", {"method": 0}),
        "avif": (rgb, "AVIF", {"speed": 10, "subsampling": "4:4:4"}),
        "jp2": (rgb.convert("RGBA"), "JPEG2000", {}),
        "gif": (rgb.convert("P"), "GIF", {}),
    }


@pytest.mark.long
def test_the_estimate_is_not_exceeded(tmp_path: Path) -> None:
    for name, (image, format, options) in large_files().items():
        image.save(tmp_path / "a", format, **options)
        command = [sys.executable, "-c", MEASURE, str(tmp_path / "a")]
        measured, estimated = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        assert 20e6 < measured <= estimated * 1.05 + 8e6, name
