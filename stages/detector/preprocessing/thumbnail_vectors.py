"""Gray thumbnails as vectors of integers, to compare many at once.

Sums of products are integers below 2^24, exact in float32 in any order, so every CPU computes the same vectors and
correlations.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.preprocessing.inspection import THUMBNAIL_SIZE

MAX_SHIFT = 2  # thumbnail pixels
LENGTH = 2048  # of a vector; the product of two is at most 2^22
PEAK = 100  # largest value of a cosine wave
CHUNK = 512  # images converted to float32 at once; small, so that a few thousand keep all cores busy

Pixels = NDArray[np.int8]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Indices = NDArray[np.int32]
Shift = tuple[int, int]


class Window(NamedTuple):
    """A rectangle of thumbnail pixels."""

    top: int
    left: int
    height: int
    width: int


def overlap_window(shift: Shift) -> Window:
    """The part of a thumbnail that, when shifted by (dy, dx), overlaps the part of another one at (-dy, -dx)."""
    dy, dx = shift
    return Window(max(0, dy), max(0, dx), THUMBNAIL_SIZE - abs(dy), THUMBNAIL_SIZE - abs(dx))


def central_window(shift: Shift) -> Window:
    """The part of a thumbnail that, when shifted by (dy, dx), covers the center of another one: the same for any."""
    side = THUMBNAIL_SIZE - 2 * MAX_SHIFT
    return Window(MAX_SHIFT + shift[0], MAX_SHIFT + shift[1], side, side)


def read_pixels(thumbnails: Sequence[bytes]) -> Pixels:
    """[N, THUMBNAIL_SIZE, THUMBNAIL_SIZE], -128..127, from uint8 pixels."""
    pixels = np.frombuffer(b"".join(thumbnails), np.uint8) ^ 128  # as int8, 128 less
    return pixels.view(np.int8).reshape(-1, THUMBNAIL_SIZE, THUMBNAIL_SIZE)


def crop_pixels(pixels: Pixels, window: Window) -> Floats:
    """[N, H, W] -> [N, pixels of the window]."""
    rows = slice(window.top, window.top + window.height)
    columns = slice(window.left, window.left + window.width)
    return pixels[:, rows, columns].reshape(len(pixels), window.height * window.width).astype(np.float32)


class Moments(NamedTuple):
    """Of the pixels in a window: sum [N] and count^2 x variance [N]."""

    sums: Doubles
    squares: Doubles


def compute_moments(pixels: Pixels, window: Window) -> Moments:
    """Those of each image [N, H, W]."""
    sums, squares = np.empty(len(pixels)), np.empty(len(pixels))

    def compute(chunk: slice) -> None:
        part = crop_pixels(pixels[chunk], window)
        sums[chunk] = part.sum(1)
        squares[chunk] = np.einsum("nk,nk->n", part, part)

    _for_each_chunk(compute, len(pixels))
    return Moments(sums, squares * (window.height * window.width) - sums**2)


def make_waves(window: Window, count: int, exponent: float = 0.0) -> Floats:
    """[pixels of the window, count]: the lowest waves of the cosine transform, orthogonal, without the mean.

    exponent: each wave is multiplied by its frequency to this power; 0: all have the same length.
    """
    height, width = window.height, window.width
    down, across = (grid.ravel() for grid in np.indices((height, width)))
    frequencies = np.hypot(down / height, across / width)
    chosen = np.lexsort((across, frequencies.round(6)))[1 : count + 1]
    rows = np.cos(np.pi * (np.arange(height)[:, None] + 0.5) * down[chosen] / height)
    columns = np.cos(np.pi * (np.arange(width)[:, None] + 0.5) * across[chosen] / width)
    scale = np.sqrt((1 + (down[chosen] > 0)) * (1 + (across[chosen] > 0))) * frequencies[chosen] ** exponent
    waves = rows[:, None] * columns[None] * scale
    rounded: Floats = np.rint(waves * (PEAK / waves.max())).reshape(-1, count).astype(np.float32)
    return rounded


def compute_wave_vectors(pixels: Pixels, window: Window, waves: Floats) -> Floats:
    """The images' shares in each wave, as integers of LENGTH: [N, waves]; zeros where there are none."""
    vectors = np.empty((len(pixels), waves.shape[1]), np.float32)

    def compute(chunk: slice) -> None:
        shares, lengths = _compute_shares(crop_pixels(pixels[chunk], window), waves)
        vectors[chunk] = np.rint(shares * _divide(np.full_like(lengths, LENGTH), lengths)[:, None])

    _for_each_chunk(compute, len(pixels))
    return vectors


def compute_bounding_vectors(
    pixels: Pixels, window: Window, waves: Floats, moments: Moments, least_share: float
) -> Floats:
    """Vectors [N, waves + 1] of LENGTH, the product of two of which is an upper bound of correlation x LENGTH^2.

    The last value is the length of what the waves do not show: the product of two such parts is at most that of their
    lengths. Where the waves show less than `least_share` of the variance, as of noise, the bound would be useless; they
    then count for that much, as if the rest were about as similar as what they show.
    """
    vectors = np.empty((len(pixels), waves.shape[1] + 1), np.float32)
    pixel_count, wave_square = len(waves), (waves * waves).sum(0, dtype=np.float64).mean()

    def compute(chunk: slice) -> None:
        shares, lengths = _compute_shares(crop_pixels(pixels[chunk], window), waves)
        variances = moments.squares[chunk] / pixel_count
        shown = _divide(lengths**2 / wave_square, variances).clip(least_share, 1)
        shown[lengths == 0] = 0
        scale = LENGTH * _divide(np.sqrt(shown), lengths)
        vectors[chunk, :-1] = np.rint(shares * scale[:, None])
        vectors[chunk, -1] = np.rint(LENGTH * np.sqrt(1 - shown) * (variances > 0))

    _for_each_chunk(compute, len(pixels))
    return vectors


def _for_each_chunk(compute: Callable[[slice], None], count: int) -> None:
    """Call it, on all cores, for slices that make up `count` images."""
    chunks = [slice(start, start + CHUNK) for start in range(0, count, CHUNK)]
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        list(threads.map(compute, chunks))


def _compute_shares(values: Floats, waves: Floats) -> tuple[Doubles, Doubles]:
    """Products [N, waves] with the waves, as integers, and their lengths [N]."""
    sums = values.sum(1).astype(np.float64)
    products = (values @ waves).astype(np.float64)
    shares = np.rint(products - sums[:, None] * waves.mean(0, dtype=np.float64))  # rounded waves have a small mean
    return shares, np.sqrt((shares * shares).sum(1))


class ShiftedPairs:
    """The exact correlation of images [N, H, W] with images that are shifted by (-dy, -dx) relative to them."""

    def __init__(self, pixels: Pixels, shift: Shift) -> None:
        self.windows = overlap_window(shift), overlap_window((-shift[0], -shift[1]))
        first = compute_moments(pixels, self.windows[0])
        self.moments = first, first if shift == (0, 0) else compute_moments(pixels, self.windows[1])
        self._pixels = pixels

    def correlate_pairs(self, first: Indices, second: Indices) -> Doubles:
        """Of images `first` [K] with images `second` [K], -1..1; 0 for a flat one."""
        one = crop_pixels(self._pixels[first], self.windows[0])
        other = crop_pixels(self._pixels[second], self.windows[1])
        return self._normalize(np.einsum("nk,nk->n", one, other), first, second)

    def correlate_all(self, first: Indices, second: Indices) -> Doubles:
        """Of each of the images `first` [K] with each of `second` [L]: [K, L]."""
        one = crop_pixels(self._pixels[first], self.windows[0])
        other = crop_pixels(self._pixels[second], self.windows[1])
        return self._normalize(one @ other.T, first[:, None], second[None])

    def _normalize(self, products: Floats, first: Indices, second: Indices) -> Doubles:
        one, other = self.moments
        count = self.windows[0].height * self.windows[0].width
        covariances = products.astype(np.float64) * count - one.sums[first] * other.sums[second]
        return _divide(covariances, np.sqrt(one.squares[first] * other.squares[second]))


def _divide(numerators: Doubles, denominators: Doubles) -> Doubles:
    """Zero where the denominator is zero."""
    return np.divide(numerators, denominators, out=np.zeros_like(numerators), where=denominators > 0)
