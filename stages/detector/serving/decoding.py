"""Decode uploads for the model: the one image path, with the limits of the service."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from fastapi import HTTPException
from numpy.typing import NDArray
from PIL import Image

from detector.core.images import ImageError, ImageProblem, OpenedImage, open_image
from detector.core.pixels import LetterboxedImage
from detector.runners.tiling import Tiling, compute_windows, count_windows
from detector.serving.uploads import Upload

# Not all of IMAGE_FORMATS: the other decoders are slow or little used, and anybody may send an image.
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")
MEMORY_PER_PIXEL = 8  # bytes; so an image of the most pixels may be RGB, and one of 16 bits or with alpha is smaller
STATUS_CODES: dict[ImageProblem, int] = {"not_an_image": 415, "too_large": 413}  # any other: 422


class UploadedImage(NamedTuple):
    """width, height: pixels of the image after EXIF rotation, in which boxes are returned."""

    name: str
    width: int
    height: int
    letterboxed: LetterboxedImage


class TiledImage(NamedTuple):
    """image: upright, in full size. windows: of its tiles [T, 4], see `compute_windows`."""

    image: Image.Image
    windows: NDArray[np.int64]


def decode_upload(
    upload: Upload, number: int, max_pixels: int, size: tuple[int, int], fill: tuple[int, int, int]
) -> UploadedImage:
    """Decode image `number` (from 1) of a request and letterbox it into size (H, W), padded with fill.

    Raises HTTPException: 415 for anything but FORMATS; 413 for more than max_pixels or what would take more
    memory or time than such an image, both before anything is decoded; and 422 for an image that cannot be decoded
    completely.
    """
    with _refuse_unusable(number):
        image = _open_upload(upload, max_pixels)
        return UploadedImage(upload.name, image.width, image.height, image.letterbox(size, fill))


def decode_upload_in_full(upload: Upload, number: int, max_pixels: int, tiling: Tiling, max_tiles: int) -> TiledImage:
    """Decode image `number` of a request in full size. Raises as `decode_upload`, and 413 for more than max_tiles."""
    with _refuse_unusable(number):
        image = _open_upload(upload, max_pixels)
        count = count_windows(image.width, image.height, tiling)
        if count > max_tiles:
            message = f"image {number} has {count} tiles of {tiling.side} pixels, {max_tiles} are allowed"
            raise HTTPException(413, f"{message}: choose larger ones with `tile`")
        return TiledImage(image.decode(), compute_windows(image.width, image.height, tiling))


def _open_upload(upload: Upload, max_pixels: int) -> OpenedImage:
    return open_image(upload.content, formats=FORMATS, max_memory=MEMORY_PER_PIXEL * max_pixels, max_pixels=max_pixels)


@contextmanager
def _refuse_unusable(number: int) -> Iterator[None]:
    try:
        yield
    except ImageError as error:
        status = STATUS_CODES.get(error.problem, 422)
        reason = f"not one of {', '.join(FORMATS)}" if error.problem == "not_an_image" else error.reason
        raise HTTPException(status, f"image {number} cannot be used: {reason}") from None
