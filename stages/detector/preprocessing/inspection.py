"""Inspection of one image file: everything that preprocess needs to know, small enough to cache."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from detector.core.images import ImageError, ImageProblem, OpenedImage, open_image, read_image
from detector.preprocessing.findings import FindingKind, Severity

THUMBNAIL_SIZE = 24  # side in pixels of the gray thumbnails that near-duplicates are found with
FINDINGS: dict[ImageProblem, FindingKind] = {
    "missing": FindingKind.MISSING_FILE,
    "unreadable": FindingKind.UNREADABLE_FILE,
    "empty": FindingKind.EMPTY_FILE,
    "not_an_image": FindingKind.NOT_AN_IMAGE,
    "too_large": FindingKind.IMAGE_TOO_LARGE,
    "truncated": FindingKind.TRUNCATED_IMAGE,
    "damaged": FindingKind.DAMAGED_IMAGE,
}


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """Content of an image file.

    content: SHA-256 of the file's bytes, hexadecimal ("" when the file cannot be opened).
    width, height: pixels of the upright image.
    thumbnail: gray, uint8, THUMBNAIL_SIZE x THUMBNAIL_SIZE, row by row.
    finding: why the image cannot be used, or has to be converted; None when it can be used as it is.
    details: of the finding, for example the image's mode.
    """

    content: str
    width: int = 0
    height: int = 0
    thumbnail: bytes = b""
    finding: FindingKind | None = None
    details: str = ""

    @property
    def is_usable(self) -> bool:
        """Whether the image can be used, converted if necessary."""
        return self.finding is None or self.finding.severity is not Severity.DROPPED_IMAGE

    @property
    def needs_conversion(self) -> bool:
        """Whether the image can be used only after `convert_image`."""
        return self.finding is not None and self.is_usable

    def to_row(self) -> tuple[Any, ...]:
        """The fields as built-in types, for SQLite and other processes."""
        key = "" if self.finding is None else self.finding.key
        return self.content, self.width, self.height, self.thumbnail, key, self.details

    @classmethod
    def from_row(cls, row: tuple[Any, ...]) -> ImageInfo:
        """The inverse of `to_row`. Raises KeyError for an unknown kind of finding."""
        content, width, height, thumbnail, key, details = row
        return cls(content, width, height, thumbnail, FindingKind[key.upper()] if key else None, details)


def inspect_image(path: Path) -> ImageInfo:
    """Read the whole file, which reveals a truncated one; decode a JPEG at an eighth of its size.

    The entropy-coded data of a JPEG is read in full at any scale, so no damage is missed, and this is
    three times as fast as a full decode.
    """
    content = ""
    try:
        data = read_image(path)
        content = hashlib.sha256(data).hexdigest()
        return _inspect_bytes(data, content)
    except ImageError as error:
        if error.problem == "unreadable":  # perhaps readable next time
            content = ""
        return ImageInfo(content, finding=FINDINGS[error.problem], details=error.reason)


def _inspect_bytes(data: bytes, content: str) -> ImageInfo:
    image = open_image(data)
    image.check_full_size()  # later stages may need it, to convert or to draw the image
    finding, details = _find_conversion(image)
    gray = image.decode(at_least=(THUMBNAIL_SIZE, THUMBNAIL_SIZE)).convert("L")
    thumbnail = gray.resize((THUMBNAIL_SIZE, THUMBNAIL_SIZE), Image.Resampling.BOX).tobytes()
    return ImageInfo(content, image.width, image.height, thumbnail, finding, details)


def _find_conversion(image: OpenedImage) -> tuple[FindingKind | None, str]:
    """Why the image has to be converted, with details; (None, "") when it can be used as it is."""
    if image.frames > 1:
        return FindingKind.FIRST_FRAME_USED, f"{image.frames} frames"
    if image.orientation > 1:
        return FindingKind.IMAGE_REORIENTED, f"EXIF orientation {image.orientation}"
    if image.mode != "RGB":
        return FindingKind.IMAGE_CONVERTED, f"mode {image.mode}"
    if image.has_transparency:
        return FindingKind.IMAGE_CONVERTED, "mode RGB with transparency"
    return None, ""


class ConvertedImage(NamedTuple):
    """An encoded image: the suffix of its format, and the bytes of its file."""

    suffix: str
    data: bytes


def convert_image(data: bytes) -> ConvertedImage:
    """The image in the bytes of a file, upright, as RGB with 8 bits per channel.

    A JPEG remains a JPEG (quality 95, no chroma subsampling); any other format becomes a PNG. Raises ImageError.
    """
    image = open_image(data)
    pixels = image.decode()
    encoded = io.BytesIO()
    if image.is_jpeg:
        kept = {key: image.info[key] for key in ("icc_profile", "comment") if key in image.info}
        pixels.save(encoded, "JPEG", quality=95, subsampling=0, **kept)
        return ConvertedImage(".jpg", encoded.getvalue())
    pixels.save(encoded, "PNG")  # without the source's color profile, which may be one of CMYK or gray
    return ConvertedImage(".png", encoded.getvalue())
