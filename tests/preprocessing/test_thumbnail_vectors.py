"""Vectors of thumbnails bound the correlation from above, and are made of exact integers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.preprocessing.inspection import THUMBNAIL_SIZE
from detector.preprocessing.thumbnail_vectors import (
    LENGTH,
    MAX_SHIFT,
    PEAK,
    ShiftedPairs,
    central_window,
    compute_bounding_vectors,
    compute_wave_vectors,
    crop_pixels,
    make_waves,
    overlap_window,
    read_pixels,
)

SHIFTS = [(dy, dx) for dy in range(-MAX_SHIFT, MAX_SHIFT + 1) for dx in range(-MAX_SHIFT, MAX_SHIFT + 1)]
SIDE = THUMBNAIL_SIZE


def similar_images(seed: int) -> np.ndarray:
    """[12, SIDE, SIDE] uint8: smooth, noisy, shifted and half-flat ones."""
    random = np.random.default_rng(seed)
    raw = random.integers(0, 256, (12, SIDE, SIDE), np.uint8)
    raw[1] = np.roll(raw[0], (1, -2), (0, 1))
    raw[2] = raw[0] // 2 + random.integers(0, 60, (SIDE, SIDE))
    raw[3, :, 3:] = 9
    raw[4:8] = random.integers(0, 256, (4, 4, 4), np.uint8).repeat(6, 1).repeat(6, 2)
    raw[8:12] = np.clip(raw[4:8] + random.normal(0, 20, (4, SIDE, SIDE)), 0, 255)
    return raw


def read(images: np.ndarray) -> np.ndarray:
    return read_pixels([image.tobytes() for image in images])


def slow_correlation(one: np.ndarray, other: np.ndarray, shift: tuple[int, int]) -> float:
    """NumPy's, of the part where the images overlap when the other is moved by the shift."""
    padded = np.full((SIDE + 4, SIDE + 4), np.nan)
    padded[2 + shift[0] : 2 + shift[0] + SIDE, 2 + shift[1] : 2 + shift[1] + SIDE] = other
    moved = padded[2:-2, 2:-2]
    seen = ~np.isnan(moved)
    if one[seen].std() == 0 or moved[seen].std() == 0:
        return 0.0
    return float(np.corrcoef(one[seen].astype(float), moved[seen])[0, 1])


def test_pixels_are_those_of_the_thumbnails() -> None:
    raw = similar_images(0)
    np.testing.assert_array_equal(read(raw), raw.astype(int) - 128)
    assert read(raw[:0]).shape == (0, SIDE, SIDE)


@pytest.mark.parametrize("shift", SHIFTS)
def test_the_correlation_matches_its_definition(shift: tuple[int, int]) -> None:
    raw = similar_images(1)
    pairs = ShiftedPairs(read(raw), shift)
    every = np.arange(len(raw), dtype=np.int32)
    expected = [[slow_correlation(one, other, shift) for other in raw] for one in raw]
    found = pairs.correlate_all(every, every)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    first, second = np.indices(found.shape).astype(np.int32)
    np.testing.assert_array_equal(pairs.correlate_pairs(first.ravel(), second.ravel()), found.ravel())


def test_waves_are_orthogonal_and_of_one_length() -> None:
    for shift in SHIFTS:
        waves = make_waves(overlap_window(shift), 79)
        products = waves.T @ waves / (waves**2).sum(0).mean()
        np.testing.assert_allclose(products, np.eye(79), atol=0.02)
        assert np.abs(waves).max() == PEAK
        np.testing.assert_array_equal(waves, np.rint(waves))


@settings(max_examples=20)
@given(st.integers(0, 1000), st.sampled_from(SHIFTS))
def test_the_bound_is_above_the_correlation(seed: int, shift: tuple[int, int]) -> None:
    pixels = read(similar_images(seed))
    pairs = ShiftedPairs(pixels, shift)
    waves = make_waves(pairs.windows[0], 40)
    one, other = (
        compute_bounding_vectors(pixels, window, waves, moments, 0.0)
        for window, moments in zip(pairs.windows, pairs.moments, strict=True)
    )
    every = np.arange(len(pixels), dtype=np.int32)
    assert np.all(one @ other.T / LENGTH**2 >= pairs.correlate_all(every, every) - 5e-3)
    np.testing.assert_allclose((one**2).sum(1), LENGTH**2, rtol=5e-3)


def test_products_are_exact_in_float32() -> None:
    pixels = read(similar_images(2))
    waves = make_waves(central_window((0, 0)), 32, 0.5)
    vectors = compute_wave_vectors(pixels, central_window((1, -2)), waves)
    np.testing.assert_array_equal(vectors, np.rint(vectors))
    exact = vectors.astype(np.int64)
    np.testing.assert_array_equal(vectors @ vectors.T, exact @ exact.T)
    extreme = np.where(waves > 0, 127, -128).T.reshape(32, 20, 20)
    sums = np.abs(extreme.reshape(32, -1).astype(np.int64)) @ np.abs(waves).astype(np.int64)
    assert sums.max() < 2**24


def test_flat_images_have_zero_vectors() -> None:
    pixels = np.full((2, SIDE, SIDE), 7, np.int8)
    pairs = ShiftedPairs(pixels, (0, 0))
    waves = make_waves(pairs.windows[0], 10)
    assert not compute_wave_vectors(pixels, pairs.windows[0], waves).any()
    assert not compute_bounding_vectors(pixels, pairs.windows[0], waves, pairs.moments[0], 0.6).any()


def test_windows_of_opposite_shifts_show_the_same_scene() -> None:
    scene = np.random.default_rng(0).integers(-128, 128, (SIDE + 4, SIDE + 4)).astype(np.int8)
    for dy, dx in SHIFTS:
        one, other = scene[None, 2:-2, 2:-2], scene[None, 2 + dy : 2 + dy + SIDE, 2 + dx : 2 + dx + SIDE]
        np.testing.assert_array_equal(
            crop_pixels(one, overlap_window((dy, dx))), crop_pixels(other, overlap_window((-dy, -dx)))
        )
        np.testing.assert_array_equal(
            crop_pixels(one, central_window((dy, dx))), crop_pixels(other, central_window((0, 0)))
        )
