"""The one image path: file -> RGB uint8 -> resized -> letterboxed. Training, evaluation and ONNX share it.

Pillow alone decodes and resizes, so that the bytes are the same on every machine and a deployed model
needs no torch. JPEGs that are at least twice too large are decoded at half size or less (`draft`):
about four times as fast as decoding in full.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from detector.core.boxes import scale_to_fit
from detector.core.tar_shards import member_of, read_file

Pixels = NDArray[np.uint8]

ORIENTATION_TAG = 0x0112
JPEG_FORMATS = ("JPEG", "MPO")  # MPO: a JPEG with a second picture behind it, as many phones write
_UPRIGHT_BY = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Letterboxed(NamedTuple):
    """pixels: uint8 [H, W, 3]; scale: input pixels per image pixel, the image lies at the top left."""

    pixels: Pixels
    scale: float


def open_image(path: Path, formats: tuple[str, ...] | None = None) -> Image.Image:
    """The image at `path`, not yet decoded: of a file, or of a member of a shard (see `archives`).

    formats: those that are opened, by Pillow's names; None: all.
    """
    source = path if member_of(path) is None else io.BytesIO(read_file(path))
    return Image.open(source, formats=formats)


def load_letterboxed(path: Path, size: tuple[int, int], fill: tuple[int, int, int]) -> Letterboxed:
    """Decode the image at `path`, fit it into `size` (H, W) and pad right and below with `fill` (RGB)."""
    with open_image(path) as image:
        return letterbox(image, size, fill)


def letterbox(image: Image.Image, size: tuple[int, int], fill: tuple[int, int, int]) -> Letterboxed:
    """As `load_letterboxed`, for an opened image (of a JPEG, better not yet decoded).

    A photograph that was taken sideways is turned upright, as preprocess does for training.
    """
    height, width = size
    full_width, full_height = upright_size(image)
    turned = (full_width, full_height) != image.size
    scale = scale_to_fit(full_width, full_height, width, height)
    fitted = (max(1, round(full_width * scale)), max(1, round(full_height * scale)))
    image.draft("RGB", fitted[::-1] if turned else fitted)
    resized = to_rgb(upright(image)).resize(fitted, Image.Resampling.BILINEAR)
    canvas = Image.new("RGB", (width, height), fill)
    canvas.paste(resized)
    return Letterboxed(np.asarray(canvas), scale)


def unusable_depth(image: Image.Image) -> str:
    """Why grey values of more than 8 bits would turn black: only 8 and full 16 bits are told apart."""
    if image.mode != "F" and not image.mode.startswith("I"):
        return ""
    brightest = np.asarray(image).max(initial=0)
    if image.mode == "F" and brightest <= 1:
        return "floating-point image with values up to 1"
    return "16-bit image that uses at most 12 bits" if 255 < brightest < 4096 else ""


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode as 8-bit RGB: 16-bit grey keeps its high byte, transparency is laid on white."""
    if image.mode.startswith("I") or image.mode == "F":
        return _sixteen_bit_to_grey(image).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _sixteen_bit_to_grey(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.float64)
    if values.max(initial=0) > 255:
        values = values / 257.0  # 65535 -> 255
    return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1..8; 1 where there is none or none that makes sense."""
    try:
        value = image.getexif().get(ORIENTATION_TAG)
    except Exception:  # Pillow raises nearly anything for broken EXIF, and the pixels may be fine
        return 1
    return int(value) if value in _UPRIGHT_BY else 1


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) of an opened image once it is upright, before anything is decoded."""
    turned = orientation(image) >= 5 and image.format != "TIFF"  # of which Pillow tells the upright size
    return image.size[::-1] if turned else image.size


def upright(image: Image.Image) -> Image.Image:
    """The image with its EXIF orientation applied to the pixels.

    Unlike `ImageOps.exif_transpose` it does not write the EXIF anew, which fails for some cameras' files.
    """
    image.load()  # turns a TIFF
    turn = orientation(image)
    return image if turn == 1 else image.transpose(_UPRIGHT_BY[turn])


# What Pillow raises for a file that is not an image, or not a whole one.
UNREADABLE = (
    UnidentifiedImageError,
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    Image.DecompressionBombError,
)
