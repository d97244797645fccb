"""Decode uploads for the model: the one image path, after a check of the header."""

from __future__ import annotations

import io
from typing import NamedTuple

from fastapi import HTTPException
from PIL import Image, UnidentifiedImageError

from detector.core.images import UNREADABLE, LetterboxedImage, letterbox, upright_size
from detector.serving.uploads import Upload

# Pillow opens more, some with unmaintained decoders or other programs (EPS): the service does not.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")


Image.init()  # registers all formats


class UploadedImage(NamedTuple):
    """width, height: pixels of the image after EXIF rotation, in which boxes are returned."""

    name: str
    width: int
    height: int
    letterboxed: LetterboxedImage


def decode_upload(
    upload: Upload, number: int, max_pixels: int, size: tuple[int, int], fill: tuple[int, int, int]
) -> UploadedImage:
    """Decode image `number` (from 1) of a request and letterbox it into size (H, W), padded with fill.

    Raises HTTPException: 415 for anything but FORMATS, 413 for more than max_pixels, both from the header alone,
    and 422 for an image that cannot be decoded completely.
    """
    try:
        with Image.open(io.BytesIO(upload.content), formats=FORMATS) as image:
            width, height = upright_size(image)
            if width * height > max_pixels:
                raise _too_large(number, max_pixels)
            return UploadedImage(upload.name, width, height, letterbox(image, size, fill))
    except UnidentifiedImageError:
        raise HTTPException(415, f"image {number} is not one of {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError:
        raise _too_large(number, max_pixels) from None
    except UNREADABLE as error:
        raise HTTPException(422, f"image {number} cannot be read: {error}") from None


def _too_large(number: int, max_pixels: int) -> HTTPException:
    return HTTPException(413, f"image {number} exceeds the limit of {max_pixels:,} pixels")
