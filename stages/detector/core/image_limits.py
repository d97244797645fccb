"""How much memory and time an image takes to decode, known before it is decoded.

A file of a few hundred kilobytes may decode to gigabytes, and a JPEG may make the decoder visit every pixel thousands
of times.
"""

from __future__ import annotations

import re

from PIL import Image

from detector.core.pixels import is_deep_gray

MAX_DECODE_MEMORY = 1 << 30  # bytes per image
MAX_SCANS = 100  # of a JPEG; encoders write about ten
MAX_PROFILES = 8  # color profiles of a PNG, which may have one; each is unpacked when the file is opened
JPEG_FORMATS = ("JPEG", "MPO")  # MPO: a JPEG followed by a second image, as many phones write

_TIFF_TILE_WIDTH, _TIFF_TILE_LENGTH = 322, 323
_START_OF_CODESTREAM = b"\xff\x4f\xff\x51"  # of JPEG 2000; two lengths and two flags later, its size
_JPEG_MARKER = re.compile(rb"\xff([\x01-\xcf\xd8-\xfe])")  # not an escaped 255, not a restart within a scan
_START_OF_SCAN, _END_OF_IMAGE, _WITHOUT_LENGTH = 0xDA, 0xD9, (0x01, 0xD8)

# Bytes per pixel of the decoder itself, besides the image: canvases and planes.
_DECODER_BYTES = {"WEBP": 12, "AVIF": 12, "JPEG2000": 16}


def estimate_memory(
    image: Image.Image, size: tuple[int, int], full_size: tuple[int, int], *, is_turned: bool, scans: int
) -> int:
    """Bytes needed at most to decode an opened image at `size` (width, height) to upright RGB.

    full_size: of a JPEG that is decoded at a smaller size. is_turned: whether its EXIF orientation has to be applied.
    scans: of a JPEG, else 1.
    """
    pixels = max(size[0] * size[1], _count_tile_pixels(image))
    stored = _stored_bytes(image.mode)
    per_pixel = stored + _conversion_bytes(image) + (stored if is_turned else 0)
    memory = pixels * (per_pixel + _DECODER_BYTES.get(image.format or "", 0))
    if scans > 1:  # the decoder keeps 2 bytes for each value of the full size
        memory += full_size[0] * full_size[1] * 2 * len(image.getbands())
    return memory


def _stored_bytes(mode: str) -> int:
    if mode in ("1", "L", "P"):
        return 1
    return 2 if mode.startswith("I;") else 4


def _conversion_bytes(image: Image.Image) -> int:
    if is_deep_gray(image.mode):
        return 2 * _stored_bytes(image.mode) + 5
    if image.has_transparency_data:
        return 16
    return 0 if image.mode == "RGB" else 4


def _count_tile_pixels(image: Image.Image) -> int:
    """Pixels of one tile of a TIFF, which may be larger than the image."""
    tags = getattr(image, "tag_v2", {})
    sides = tags.get(_TIFF_TILE_WIDTH, 0), tags.get(_TIFF_TILE_LENGTH, 0)
    return sides[0] * sides[1] if all(isinstance(side, int) for side in sides) else 0


def count_profiles(data: bytes) -> int:
    """The color profiles of a PNG, perhaps more by chance; 0 for other files."""
    return data.count(b"iCCP") if data.startswith(b"\x89PNG") else 0


def count_scans(data: bytes) -> int:
    """The scans of a JPEG's first image, by its markers."""
    scans, place = 0, 2
    while match := _JPEG_MARKER.search(data, place):
        marker, place = match[1][0], match.end()
        if marker == _END_OF_IMAGE:
            break
        scans += marker == _START_OF_SCAN
        if marker not in _WITHOUT_LENGTH:
            place += int.from_bytes(data[place : place + 2], "big")
    return scans
