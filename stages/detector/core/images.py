"""Image loading shared by training, evaluation and ONNX inference: decode to RGB uint8, resize, letterbox.

Only Pillow decodes and resizes: the bytes are the same on every machine, and a deployed model needs no torch.
JPEGs at least twice as large as needed are decoded at half size or less (`draft`), about four times as fast
as decoding at full size.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from detector.core.boxes import scale_to_fit
from detector.core.tar_shards import parse_member_path, read_image_bytes

Pixels = NDArray[np.uint8]

# The formats that images are opened with, by Pillow's names. Pillow knows more, some with decoders that nobody
# maintains, and it starts another program for an EPS, whatever its file is called. MPO: a JPEG followed by a second
# image, as many phones write.
IMAGE_FORMATS = ("JPEG", "MPO", "PNG", "BMP", "DIB", "GIF", "TIFF", "WEBP", "AVIF", "JPEG2000", "PPM")
IMAGE_SUFFIXES = frozenset(
    ".jpg .jpeg .jpe .jfif .mpo .png .apng .bmp .dib .gif .tif .tiff .webp .avif .jp2 .j2k .jpf .jpx .ppm .pgm .pbm .pnm "
    ".pfm".split()
)
ORIENTATION_TAG = 0x0112
JPEG_FORMATS = ("JPEG", "MPO")  # MPO: a JPEG followed by a second image, as many phones write
_UPRIGHT_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class LetterboxedImage(NamedTuple):
    """pixels: uint8 [H, W, 3], the image at the top left; scale: input pixels per image pixel."""

    pixels: Pixels
    scale: float


def open_image(path: Path, formats: tuple[str, ...] | None = None) -> Image.Image:
    """Open the image at `path`, a file or a shard member (see `tar_shards`), without decoding it.

    formats: the accepted formats, by Pillow's names; None: all.
    """
    source = path if parse_member_path(path) is None else io.BytesIO(read_image_bytes(path))
    return Image.open(source, formats=formats)


def load_letterboxed(path: Path, size: tuple[int, int], fill: tuple[int, int, int]) -> LetterboxedImage:
    """Decode the image at `path`, fit it into `size` (H, W) and pad the right and bottom with `fill` (RGB)."""
    with open_image(path) as image:
        return letterbox(image, size, fill)


def letterbox(image: Image.Image, size: tuple[int, int], fill: tuple[int, int, int]) -> LetterboxedImage:
    """Like `load_letterboxed`, for an opened image; a JPEG is faster if it is not decoded yet.

    The EXIF orientation is applied, as preprocess does for training.
    """
    height, width = size
    full_width, full_height = upright_size(image)
    is_rotated = (full_width, full_height) != image.size
    scale = scale_to_fit(full_width, full_height, width, height)
    fitted = (max(1, round(full_width * scale)), max(1, round(full_height * scale)))
    image.draft("RGB", fitted[::-1] if is_rotated else fitted)
    resized = to_rgb(apply_orientation(image)).resize(fitted, Image.Resampling.BILINEAR)
    canvas = Image.new("RGB", (width, height), fill)
    canvas.paste(resized)
    return LetterboxedImage(np.asarray(canvas), scale)


def find_depth_problem(image: Image.Image) -> str:
    """Why gray values of more than 8 bits would turn black, or "": only 8 and full 16 bits are supported."""
    if image.mode != "F" and not image.mode.startswith("I"):
        return ""
    brightest = np.asarray(image).max(initial=0)
    if image.mode == "F" and brightest <= 1:
        return "floating-point image with values up to 1"
    return "16-bit image that uses at most 12 bits" if 255 < brightest < 4096 else ""


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any Pillow mode to 8-bit RGB: 16-bit gray keeps its high byte, transparency is composited onto white."""
    if image.mode.startswith("I") or image.mode == "F":
        return _convert_16_bit_gray(image).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _convert_16_bit_gray(image: Image.Image) -> Image.Image:
    values = np.asarray(image).astype(np.float64)
    if values.max(initial=0) > 255:
        values = values / 257.0  # 65535 -> 255
    return Image.fromarray(np.clip(np.rint(values), 0, 255).astype(np.uint8))


def read_orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 if it is missing or invalid."""
    try:
        value = image.getexif().get(ORIENTATION_TAG)
    except Exception:  # broken EXIF raises almost anything, and the pixels may be fine
        return 1
    return int(value) if value in _UPRIGHT_TRANSPOSES else 1


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) of an opened image after its EXIF orientation is applied; nothing is decoded."""
    is_rotated = read_orientation(image) >= 5 and image.format != "TIFF"  # Pillow gives a TIFF's upright size
    return image.size[::-1] if is_rotated else image.size


def apply_orientation(image: Image.Image) -> Image.Image:
    """The image with its EXIF orientation applied to the pixels.

    Unlike `ImageOps.exif_transpose` it does not rewrite the EXIF data, which fails for some cameras' files.
    """
    image.load()  # Pillow rotates a TIFF here
    orientation = read_orientation(image)
    return image if orientation == 1 else image.transpose(_UPRIGHT_TRANSPOSES[orientation])


# Raised by Pillow for a file that is no image or is truncated.
UNREADABLE = (
    UnidentifiedImageError,
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    Image.DecompressionBombError,
)
