"""Near-duplicates are grouped as a person would, in generated images and real photographs."""

from __future__ import annotations

import io
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from detector.manifest.union_find import DisjointSets
from detector.preprocessing import duplicates, thumbnail_clusters
from detector.preprocessing.duplicates import (
    CentralClusters,
    OneCluster,
    find_near_duplicate_pairs,
    group_duplicates,
    list_shifts,
    make_clusters,
)
from detector.preprocessing.inspection import THUMBNAIL_SIZE, inspect_image
from detector.preprocessing.thumbnail_vectors import ShiftedPairs, read_pixels

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


@settings(max_examples=30)
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


def slow_groups(thumbnails: list[bytes], similarity: float) -> list[int]:
    """Of the exact correlation of every pair at every shift."""
    pixels, images = read_pixels(thumbnails), np.arange(len(thumbnails), dtype=np.int32)
    sets = DisjointSets(len(thumbnails))
    for shift in list_shifts():
        linked = ShiftedPairs(pixels, shift).correlate_all(images, images) >= similarity
        for first, second in zip(*linked.nonzero(), strict=True):
            sets.union(int(first), int(second))
    return [sets.find(index) for index in range(len(thumbnails))]


def near_and_far(seed: int, count: int, smoothness: int) -> list[bytes]:
    """Thumbnails of which two thirds are shifted, noisy, partly covered versions of others, many just as similar as
    SIMILARITY; smoothness: side in pixels of their cells, 1 for noise.
    """
    random = np.random.default_rng(seed)
    side = -(-(THUMBNAIL_SIZE + 4) // smoothness)
    originals = random.integers(0, 256, (count // 3, side, side)).repeat(smoothness, 1).repeat(smoothness, 2)
    found = []
    for index in range(count):
        top, left = random.integers(0, 5, 2) if index % 3 else (2, 2)
        pixels = originals[index % len(originals), top : top + THUMBNAIL_SIZE, left : left + THUMBNAIL_SIZE].copy()
        if index % 3 == 1 and smoothness > 1:
            pixels[: random.integers(0, 12), : random.integers(0, 18)] = random.integers(0, 256)
        noise = random.normal(0, random.uniform(0, 70), pixels.shape) if index % 3 else 0
        found.append(np.clip(pixels * random.uniform(0.3, 1) + noise, 0, 255).astype(np.uint8).tobytes())
    return found


@pytest.mark.parametrize("smoothness", [1, 4, 7])
@pytest.mark.parametrize("similarity", [0.6, SIMILARITY, 0.95])
def test_the_groups_are_those_of_all_correlations(similarity: float, smoothness: int) -> None:
    thumbnails = near_and_far(smoothness, 300, smoothness)
    expected = slow_groups(thumbnails, similarity)
    assert 30 < len(set(expected)) < 290
    assert groups(thumbnails, similarity) == expected


@pytest.mark.parametrize("smoothness", [1, 4])
def test_clusters_do_not_change_the_groups(smoothness: int, monkeypatch: pytest.MonkeyPatch) -> None:
    thumbnails = near_and_far(0, 2500, smoothness)
    expected = groups(thumbnails)
    monkeypatch.setattr(duplicates, "EXHAUSTIVE_LIMIT", 0)
    monkeypatch.setattr(thumbnail_clusters, "PER_CENTER", 8)
    with ThreadPoolExecutor(1) as threads:
        assert isinstance(make_clusters(read_pixels(thumbnails), threads), CentralClusters)
    assert groups(thumbnails) == expected


def test_of_one_scene_every_pair_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(duplicates, "EXHAUSTIVE_LIMIT", 0)
    with ThreadPoolExecutor(1) as threads:
        assert isinstance(make_clusters(read_pixels(random_thumbnails(1) * 500), threads), OneCluster)
    assert groups(random_thumbnails(1) * 500) == [0] * 500


def test_pairs_across_matrix_products_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, columns = 64, 48
    monkeypatch.setattr(duplicates, "ROWS", rows)
    monkeypatch.setattr(duplicates, "COLUMNS", columns)
    monkeypatch.setattr(duplicates, "PAIRS_PER_BATCH", 2)
    thumbnails = random_thumbnails(2 * rows + 10)
    copies = {3: 0, rows + 5: rows + 1, 2 * rows + 9: 7, 2 * rows + 8: rows - 1}
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
