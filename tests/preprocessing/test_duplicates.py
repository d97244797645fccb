"""Near-duplicates are grouped as a person would, in generated images and real photographs."""

from __future__ import annotations

import io
import time
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from detector.preprocessing import duplicates
from detector.preprocessing.duplicates import ShiftedThumbnails, find_near_duplicate_pairs, group_duplicates
from detector.preprocessing.inspection import THUMBNAIL_SIZE, inspect_image

BCCD = Path(__file__).parents[2].parent / "shared/datasets/bccd/data"
SIMILARITY = 0.85  # as in params.yaml
PAIRS = {
    ("00037", "00038"),
    ("00227", "00260"),
    ("00229", "00258"),
    ("00230", "00257"),
    ("00231", "00256"),
    ("00382", "00395"),
    ("00386", "00391"),
}


def scene(seed: int, shift: tuple[int, int] = (0, 0)) -> Image.Image:
    """A 320 x 240 window into a larger image of random smooth blobs."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (9, 12, 3), np.uint8))
    left, top = 40 + shift[0], 30 + shift[1]
    return coarse.resize((400, 300), Image.Resampling.BICUBIC).crop((left, top, left + 320, top + 240))


def thumbnail(image: Image.Image, folder: Path, **options: Any) -> bytes:
    image.save(folder / "a.jpg", **options)
    return inspect_image(folder / "a.jpg").thumbnail


def groups(thumbnails: list[bytes], similarity: float | None = SIMILARITY) -> list[int]:
    return group_duplicates([str(index) for index in range(len(thumbnails))], thumbnails, similarity)


def random_thumbnails(count: int, seed: int = 0) -> list[bytes]:
    """Smooth thumbnails, like those of photographs, that differ from each other."""
    cells = np.random.default_rng(seed).integers(0, 256, (count, 6, 6), np.uint8)
    return [grid.repeat(4, 0).repeat(4, 1).tobytes() for grid in cells]


def slow_correlation(first: bytes, second: bytes) -> float:
    """The definition with NumPy's correlation: the best of all shifts by up to two pixels."""
    one, other = (
        np.frombuffer(data, np.uint8).reshape(THUMBNAIL_SIZE, THUMBNAIL_SIZE).astype(float) for data in (first, second)
    )
    padded = np.pad(other, 2, constant_values=np.nan)
    best = -1.0
    for dy in range(5):
        for dx in range(5):
            moved = padded[dy : dy + THUMBNAIL_SIZE, dx : dx + THUMBNAIL_SIZE]
            seen = ~np.isnan(moved)
            if one[seen].std() > 0 and moved[seen].std() > 0:
                best = max(best, np.corrcoef(one[seen], moved[seen])[0, 1])
            else:
                best = max(best, 0.0)
    return best


def test_no_images() -> None:
    assert groups([]) == []
    assert list(find_near_duplicate_pairs([], SIMILARITY)) == []


def test_one_image() -> None:
    assert groups(random_thumbnails(1)) == [0]


def test_exact_copies_are_found_by_their_content() -> None:
    thumbnails = random_thumbnails(5)
    assert group_duplicates(["a", "b", "a", "c", "b"], thumbnails, None) == [0, 1, 0, 3, 1]


def test_without_a_similarity_only_exact_copies_count() -> None:
    assert groups([random_thumbnails(1)[0]] * 3, None) == [0, 1, 2]


def test_equal_thumbnails_are_grouped_at_similarity_one() -> None:
    thumbnails = random_thumbnails(2)
    assert groups([*thumbnails, thumbnails[0]], 1) == [0, 1, 0]


def test_flat_images_are_similar_to_nothing() -> None:
    flat = [bytes([value]) * THUMBNAIL_SIZE**2 for value in (0, 128, 128, 255)]
    assert groups([*flat, *random_thumbnails(2)]) == list(range(6))


def test_versions_of_one_image_are_grouped(tmp_path: Path) -> None:
    original = scene(1)
    crop = original.crop((4, 3, 316, 237))
    versions = [
        thumbnail(original, tmp_path, quality=95),
        thumbnail(original, tmp_path, quality=15),
        thumbnail(original.resize((200, 150)), tmp_path),
        thumbnail(ImageEnhance.Brightness(original).enhance(0.6), tmp_path),
        thumbnail(ImageEnhance.Brightness(original).enhance(1.2), tmp_path),
        thumbnail(ImageEnhance.Contrast(original).enhance(0.5), tmp_path),
        thumbnail(original.convert("L"), tmp_path),
        thumbnail(crop, tmp_path),
        thumbnail(scene(1, (20, 0)), tmp_path),
        thumbnail(scene(1, (0, -15)), tmp_path),
        thumbnail(scene(1, (-20, 15)), tmp_path),
    ]
    assert groups(versions) == [0] * len(versions)


def test_different_images_are_not_grouped(tmp_path: Path) -> None:
    pictures = [scene(seed) for seed in range(40)]
    pictures += [pictures[0].transpose(Image.Transpose.FLIP_LEFT_RIGHT), pictures[0].rotate(180)]
    assert groups([thumbnail(picture, tmp_path) for picture in pictures]) == list(range(42))


def test_a_negative_is_a_different_image() -> None:
    first = random_thumbnails(1)[0]
    assert groups([first, bytes(255 - value for value in first)]) == [0, 1]


def test_frames_of_a_panning_camera_form_one_group(tmp_path: Path) -> None:
    frames = [thumbnail(scene(1, (shift, 0)), tmp_path) for shift in range(-40, 41, 20)]
    assert list(find_near_duplicate_pairs([frames[0], frames[-1]], SIMILARITY)) == []
    assert groups(frames) == [0] * 5


@settings(deadline=None, max_examples=30)
@given(st.randoms(use_true_random=False), st.integers(0, 1000))
def test_groups_do_not_depend_on_the_order(random: Random, seed: int) -> None:
    originals = random_thumbnails(6, seed)
    noise = np.random.default_rng(seed).normal(0, 25, (18, THUMBNAIL_SIZE**2))
    thumbnails = [
        np.clip(np.frombuffer(originals[index % 6], np.uint8) + noise[index], 0, 255).astype(np.uint8).tobytes()
        for index in range(18)
    ]
    order = list(range(18))
    random.shuffle(order)
    shuffled = groups([thumbnails[index] for index in order])
    members: dict[int, set[int]] = {}
    for place, group in enumerate(shuffled):
        members.setdefault(group, set()).add(order[place])
    expected: dict[int, set[int]] = {}
    for index, group in enumerate(groups(thumbnails)):
        expected.setdefault(group, set()).add(index)
    assert {min(group): group for group in members.values()} == expected
    assert all(group == min(place for place, other in enumerate(shuffled) if other == group) for group in shuffled)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 1000))
def test_the_correlation_matches_its_definition(seed: int) -> None:
    random = np.random.default_rng(seed)
    raw = random.integers(0, 256, (4, THUMBNAIL_SIZE, THUMBNAIL_SIZE), np.uint8)
    raw[1] = np.roll(raw[0], (1, -2), (0, 1))
    raw[2] = raw[0] // 2 + random.integers(0, 60, (THUMBNAIL_SIZE, THUMBNAIL_SIZE))
    raw[3, :, 3:] = 9
    shifted = ShiftedThumbnails(raw.astype(np.float32) - 128, 2)
    first, second = np.triu_indices(4)
    expected = [slow_correlation(raw[i].tobytes(), raw[j].tobytes()) for i, j in zip(first, second, strict=True)]
    np.testing.assert_allclose(shifted.compute_best_correlation(first, second), expected, atol=1e-9)


def test_products_of_unit_vectors_are_correlations() -> None:
    pixels = np.random.default_rng(0).integers(-128, 128, (5, 8, 8)).astype(np.float32)
    pixels[4] = 17
    coarse = ShiftedThumbnails(pixels, 1)
    first, second = (grid.ravel() for grid in np.indices((5, 5)))
    best = np.max(
        [coarse.compute_unit_vectors((y, x)) @ coarse.compute_unit_vectors((-y, -x)).T for y, x in coarse.shifts],
        axis=0,
    )
    np.testing.assert_allclose(best.ravel(), coarse.compute_best_correlation(first, second), atol=1e-5)


def test_pairs_across_blocks_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    block = 64
    monkeypatch.setattr(duplicates, "BLOCK_SIZE", block)
    monkeypatch.setattr(duplicates, "PAIRS_PER_BATCH", 2)
    thumbnails = random_thumbnails(2 * block + 10)
    copies = {3: 0, block + 5: block + 1, 2 * block + 9: 7, 2 * block + 8: block - 1}
    for later, earlier in copies.items():
        thumbnails[later] = thumbnails[earlier]
    assert {(b, a) for a, b in find_near_duplicate_pairs(thumbnails, 0.99)} == set(copies.items())
    found = groups(thumbnails, 0.99)
    assert found == [copies.get(index, index) for index in range(len(thumbnails))]


def test_pairs_in_one_group_are_skipped() -> None:
    pairs = list(find_near_duplicate_pairs(random_thumbnails(1) * 50, SIMILARITY))
    assert len(pairs) == 49
    assert all(first < second for first, second in pairs)


def test_thousands_of_frames_of_one_camera_are_grouped_quickly() -> None:
    random = np.random.default_rng(0)
    base = np.frombuffer(random_thumbnails(1)[0], np.uint8).astype(int)
    frames = [np.clip(base + noise, 0, 255).astype(np.uint8).tobytes() for noise in random.integers(-9, 9, (3000, 576))]
    started = time.perf_counter()
    assert groups(frames) == [0] * 3000
    assert time.perf_counter() - started < 10  # comparing all pairs would take minutes


@pytest.mark.skipif(not BCCD.is_dir(), reason="the blood-cell photographs are not next to the repository")
def test_exactly_the_seven_pairs_are_found_in_real_photographs() -> None:
    paths = sorted(BCCD.glob("*.jpg"))
    assert len(paths) == 364
    thumbnails = [inspect_image(path).thumbnail for path in paths]
    names = [path.stem.removeprefix("BloodImage_") for path in paths]
    pairs = {(names[first], names[second]) for first, second in find_near_duplicate_pairs(thumbnails, SIMILARITY)}
    assert pairs == PAIRS
    looser = {(names[first], names[second]) for first, second in find_near_duplicate_pairs(thumbnails, 0.75)}
    assert looser == PAIRS, "no pair lies in between: the next correlation is 0.728"


def test_a_recompressed_photograph_is_grouped(tmp_path: Path) -> None:
    """Only the bytes differ; the pixels are equal."""
    buffer = io.BytesIO()
    scene(3).save(buffer, "PNG")
    with Image.open(buffer) as image:
        (tmp_path / "a.png").write_bytes(buffer.getvalue())
        image.save(tmp_path / "b.png", compress_level=1)
    first, second = inspect_image(tmp_path / "a.png"), inspect_image(tmp_path / "b.png")
    assert first.content != second.content
    assert group_duplicates([first.content, second.content], [first.thumbnail, second.thumbnail], 1) == [0, 0]
