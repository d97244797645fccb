"""Pixels of any kind as 8-bit RGB, and RGB images as the model's input."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detector.core.boxes import scale_to_fit

Pixels = NDArray[np.uint8]

GRAY_DEPTHS = (8, 10, 12, 14, 16)  # bits per pixel that cameras and scanners write
_BLOCK_PIXELS = 1 << 20  # gray pixels reduced at once: 8 MB


class LetterboxedImage(NamedTuple):
    """pixels: uint8 [H, W, 3], the image at the top left; scale: input pixels per image pixel in x and y."""

    pixels: Pixels
    scale: tuple[float, float]


def letterbox(
    image: Image.Image, size: tuple[int, int], fill: tuple[int, int, int], full_size: tuple[int, int] | None = None
) -> LetterboxedImage:
    """Fit an upright RGB image into `size` (H, W) and pad the right and bottom with `fill` (RGB).

    full_size: width and height of the image before it was decoded at reduced size.
    """
    height, width = size
    full_width, full_height = full_size or image.size
    resized = image.resize(fit_size(full_width, full_height, width, height), Image.Resampling.BILINEAR)
    canvas = Image.new("RGB", (width, height), fill)
    canvas.paste(resized)
    return LetterboxedImage(np.asarray(canvas), fit_scale(full_width, full_height, width, height))


def fit_size(width: int, height: int, target_width: int, target_height: int) -> tuple[int, int]:
    """Width and height of an image that is scaled to fit into the target, at least one pixel each."""
    scale = scale_to_fit(width, height, target_width, target_height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def fit_scale(width: int, height: int, target_width: int, target_height: int) -> tuple[float, float]:
    """Pixels per image pixel in x and y of an image in the size of `fit_size`: rounding makes the two differ."""
    fitted_width, fitted_height = fit_size(width, height, target_width, target_height)
    return fitted_width / width, fitted_height / height


def is_deep_gray(mode: str) -> bool:
    """Whether a Pillow mode has gray values of more than 8 bits."""
    return mode.startswith("I") or mode == "F"


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert any Pillow mode to 8-bit RGB: deep gray as in `find_white`, transparency composited onto white."""
    if is_deep_gray(image.mode):
        return _reduce_gray(image).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def find_white(brightest: float, is_float: bool) -> float:
    """The value that becomes 255 in an image with this brightest value; 0 becomes 0, and everything between is linear.

    It is the largest value of the smallest of GRAY_DEPTHS that holds the brightest one: 255, 1023, 4095, 16383 or
    65535. So the exposure of an image is kept, but for one that does not use the upper three quarters of its range.
    Floating-point values up to 1 have the white 1. Above 16 bits it is the next 2^n - 1.
    """
    if is_float and brightest <= 1:
        return 1.0
    for depth in GRAY_DEPTHS:
        if brightest < 2**depth:
            return 2.0**depth - 1
    return 2.0 ** math.frexp(brightest)[1] - 1


def _reduce_gray(image: Image.Image) -> Image.Image:
    """Values that are no number, infinite or below 0 become black."""
    values = np.asarray(image)
    reduced = np.empty(values.shape, np.uint8)
    rows = max(1, _BLOCK_PIXELS // max(1, image.width))
    blocks = [slice(start, start + rows) for start in range(0, image.height, rows)]
    is_float = image.mode == "F"
    brightest = max(float(np.max(values[block], where=np.isfinite(values[block]), initial=0)) for block in blocks)
    divisor = find_white(brightest, is_float) / 255
    for block in blocks:
        scaled = np.rint(values[block].astype(np.float64) / divisor)
        reduced[block] = np.clip(np.nan_to_num(scaled, nan=0, posinf=0, neginf=0), 0, 255)
    return Image.fromarray(reduced)
