"""What preprocess needs to know of an image file, read once and small enough to remember."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from detector.core.images import JPEG_FORMATS, open_image, orientation, to_rgb, unusable_depth, upright
from detector.core.tar_shards import read_file

THUMBNAIL = 24  # side in pixels of the grey thumbnail that near-duplicates are found with
MISSING = "missing file"  # an error: nothing is there


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What a file holds.

    content: SHA-256 of the file's bytes, hexadecimal ("" when the file cannot be opened).
    width, height: pixels of the upright image.
    thumbnail: grey, uint8, THUMBNAIL x THUMBNAIL, row by row.
    change: why the image cannot be used as it is ("" when it can): its mode or its orientation.
    error: why the image cannot be used at all ("" when it can).
    """

    content: str
    width: int = 0
    height: int = 0
    thumbnail: bytes = b""
    change: str = ""
    error: str = ""


def inspect(path: Path) -> ImageFacts:
    """Read the whole file, so that a truncated one is found; decode a JPEG at an eighth of its size.

    The entropy-coded data of a JPEG is read in full at any scale, so nothing goes unnoticed, and it is
    three times as fast as a full decode.
    """
    try:
        data = read_file(path)
    except FileNotFoundError:
        return ImageFacts("", error=MISSING)
    except OSError as error:
        return ImageFacts("", error=f"unreadable file ({error.strerror})")
    content = hashlib.sha256(data).hexdigest()
    try:
        return _facts(data, content)
    except MemoryError:
        raise
    except Exception as error:  # a broken file makes Pillow raise nearly anything
        return ImageFacts(content, error=_reason(data, error))


def _facts(data: bytes, content: str) -> ImageFacts:
    with Image.open(io.BytesIO(data)) as image:
        if useless := unusable_depth(image):
            return ImageFacts(content, error=useless)
        turn = orientation(image)
        change = _change(image, turn)
        full = image.size if turn < 5 else image.size[::-1]
        drafted = image.draft("RGB" if image.mode == "CMYK" else image.mode, (THUMBNAIL, THUMBNAIL))
        picture = upright(image)
        width, height = full if drafted else picture.size  # Pillow gives a TIFF the upright size from the start
        grey = to_rgb(picture).convert("L")
        thumbnail = grey.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX).tobytes()
    return ImageFacts(content, width, height, thumbnail, change)


def _change(image: Image.Image, turn: int) -> str:
    if image.format not in JPEG_FORMATS and getattr(image, "n_frames", 1) > 1:
        return "several frames, the first is used"
    if turn > 1:
        return f"EXIF orientation {turn}"
    if image.mode != "RGB":
        return f"mode {image.mode}"
    return "mode RGB with transparency" if image.has_transparency_data else ""


def _reason(data: bytes, error: Exception) -> str:
    if not data:
        return "empty file"
    if isinstance(error, Image.DecompressionBombError):
        return "image too large"
    if isinstance(error, UnidentifiedImageError):
        return "not an image"
    return "truncated image" if "truncated" in str(error).lower() else "damaged image"


def write_changed(source: Path, target: Path) -> Path:
    """Save the image upright, RGB, 8 bits a channel; returns the path written (its suffix may change).

    A JPEG stays a JPEG (quality 95, full colour resolution); everything else becomes a PNG.
    """
    with open_image(source) as image:
        jpeg = image.format in JPEG_FORMATS
        pixels = to_rgb(upright(image))
    target = target.with_suffix(".jpg" if jpeg else ".png")
    target.parent.mkdir(parents=True, exist_ok=True)
    if jpeg:
        pixels.save(target, "JPEG", quality=95, subsampling=0)
    else:
        pixels.save(target, "PNG", icc_profile=None)  # which would be the one of CMYK or grey
    return target
