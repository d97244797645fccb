"""Generated thumbnails with the frequencies of photographs, a fifth of them near-duplicates of others."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

SIDE = 24
MARGIN = 2  # pixels around a thumbnail, by which a near-duplicate may be shifted
CHUNK = 10_000
DUPLICATES = 5  # one in so many

Pixels = NDArray[np.uint8]


def generate_thumbnails(count: int) -> Iterator[Pixels]:
    """Blocks [N, 24, 24] of `count` thumbnails; a near-duplicate lies in the block of its original."""
    for start in range(0, count, CHUNK):
        random = np.random.default_rng(start)
        size = min(CHUNK, count - start)
        scenes = _generate_scenes(random, size - size // DUPLICATES)
        originals = scenes[:, MARGIN:-MARGIN, MARGIN:-MARGIN]
        block = np.concatenate([originals, _change(random, scenes, size // DUPLICATES)])
        yield np.clip(block[random.permutation(size)], 0, 255).astype(np.uint8)


def _generate_scenes(random: np.random.Generator, count: int) -> NDArray[np.float32]:
    """[count, 28, 28]: amplitudes fall with the frequency, and the sky is brighter than the ground."""
    side, large = SIDE + 2 * MARGIN, 2 * SIDE
    frequencies = np.hypot(np.fft.fftfreq(large)[:, None], np.fft.rfftfreq(large)).astype(np.float32)
    frequencies[0, 0] = 1
    steepness = random.normal(1, 0.15, (count, 1, 1)).astype(np.float32)
    shape = (2, count, *frequencies.shape)
    real, imaginary = random.standard_normal(shape, dtype=np.float32) * frequencies**-steepness
    real[:, 0, 0] = imaginary[:, 0, 0] = 0
    scenes = np.fft.irfft2(real + 1j * imaginary, (large, large))[:, :side, :side].astype(np.float32)
    scenes /= scenes.std((1, 2), keepdims=True)
    scenes += np.linspace(0.5, -0.5, side, dtype=np.float32)[:, None] * np.abs(random.normal(0, 1, (count, 1, 1)))
    contrast, brightness = np.exp(random.normal(3.6, 0.45, (count, 1, 1))), random.normal(120, 30, (count, 1, 1))
    return (scenes * contrast + brightness).astype(np.float32)


def _change(random: np.random.Generator, scenes: NDArray[np.float32], count: int) -> NDArray[np.float32]:
    """[count, 24, 24]: random scenes, shifted, of another contrast, with noise."""
    chosen, down, across = random.integers(0, (len(scenes), 2 * MARGIN + 1, 2 * MARGIN + 1), (count, 3)).T
    views = np.lib.stride_tricks.sliding_window_view(scenes, (SIDE, SIDE), axis=(1, 2))[chosen, down, across]
    mean, deviation = views.mean((1, 2), keepdims=True), views.std((1, 2), keepdims=True)
    noise = random.standard_normal(views.shape) * deviation * random.uniform(0.05, 0.7, (count, 1, 1))
    changed: NDArray[np.float32] = (views - mean + noise) * random.uniform(0.4, 1.2, (count, 1, 1)) + mean
    return changed
