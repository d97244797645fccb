"""Images of every format and mode, and copies of them that are damaged at random places, from a seed."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from PIL import Image

SIZE = (60, 44)  # width, height


def encode(mode: str, format: str, **options: Any) -> bytes:
    """A picture of noise and a gradient, so that every part of the file decides pixels."""
    noise = np.random.default_rng(0).integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)
    image = Image.fromarray(noise)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257)
    elif mode == "LA":
        image = image.convert("L").convert("LA")
    else:
        image = image.convert(mode)
    target = io.BytesIO()
    image.save(target, format, **options)
    return target.getvalue()


def turned() -> Image.Exif:
    """EXIF data of an image that a camera stored on its side."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """A part of a PNG: length, kind, data, checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_files() -> dict[str, bytes]:
    """PNGs of all modes that Pillow writes, with and without EXIF."""
    files = {mode: encode(mode, "PNG") for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")}
    return files | {f"{mode} turned": encode(mode, "PNG", exif=turned()) for mode in ("L", "RGB", "RGBA")}


def damaged_pngs(seed: int) -> Iterator[bytes]:
    """Endless damaged copies of `png_files`."""
    random = np.random.default_rng(seed)
    files = list(png_files().values())
    ways = (_flip_bytes, _cut_end, _rotate_part, _damage_pixels, _lose_part)
    while True:
        data = files[random.integers(len(files))]
        yield ways[random.integers(len(ways))](data, random)


def damage(data: bytes, random: np.random.Generator) -> bytes:
    """A damaged copy of any file."""
    ways = (_flip_bytes, _cut_end, _rotate_part, _lose_part)
    return ways[random.integers(len(ways))](data, random)


def _flip_bytes(data: bytes, random: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for place in random.integers(0, len(data), random.integers(1, 6)):
        changed[place] = random.integers(256)
    return bytes(changed)


def _cut_end(data: bytes, random: np.random.Generator) -> bytes:
    return data[: random.integers(1, len(data))]


def _lose_part(data: bytes, random: np.random.Generator) -> bytes:
    start, length = int(random.integers(len(data))), int(random.integers(1, 64))
    return data[:start] + data[start + length :]


def _rotate_part(data: bytes, random: np.random.Generator) -> bytes:
    start, length = int(random.integers(len(data))), int(random.integers(8, 400))
    part = data[start : start + length]
    return data[:start] + part[1:] + part[:1] + data[start + length :]


def _damage_pixels(data: bytes, random: np.random.Generator) -> bytes:
    """Damage the compressed pixels of a PNG, whose checksum is right afterwards."""
    start = data.index(b"IDAT")
    length = struct.unpack(">I", data[start - 4 : start])[0]
    pixels = damage(data[start + 4 : start + 4 + length], random)
    return data[: start - 4] + png_chunk(b"IDAT", pixels) + data[start + 8 + length :]
