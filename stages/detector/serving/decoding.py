"""The bytes of an upload as what the model sees: the one image path, after a look at the header."""

from __future__ import annotations

import io
from typing import NamedTuple

from fastapi import HTTPException
from PIL import Image, UnidentifiedImageError

from detector.core.images import UNREADABLE, Letterboxed, letterbox, upright_size
from detector.serving.uploads import Upload

# Pillow opens more, some with decoders that nobody looks after or with other programs (EPS): a service does not.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")


Image.init()  # or else Pillow does not know them all


class Seen(NamedTuple):
    """width, height: of the upright image in pixels, in which boxes are answered."""

    name: str
    width: int
    height: int
    letterboxed: Letterboxed


def decode(upload: Upload, number: int, max_pixels: int, size: tuple[int, int], fill: tuple[int, int, int]) -> Seen:
    """Image `number` (from 1) of a request, fitted into size (H, W) and padded with fill.

    Raises HTTPException: 415 for what is no image of FORMATS, 413 for more than max_pixels, both from the header
    alone, and 422 for one that cannot be decoded to its end.
    """
    try:
        with Image.open(io.BytesIO(upload.content), formats=FORMATS) as image:
            width, height = upright_size(image)
            if width * height > max_pixels:
                raise _too_large(number, max_pixels)
            return Seen(upload.name, width, height, letterbox(image, size, fill))
    except UnidentifiedImageError:
        raise HTTPException(415, f"image {number} is none of {', '.join(FORMATS)}") from None
    except Image.DecompressionBombError:
        raise _too_large(number, max_pixels) from None
    except UNREADABLE as error:
        raise HTTPException(422, f"image {number} cannot be read: {error}") from None


def _too_large(number: int, max_pixels: int) -> HTTPException:
    return HTTPException(413, f"image {number} has more than the {max_pixels:,} pixels that are allowed")
