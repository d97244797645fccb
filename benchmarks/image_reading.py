"""Speed of reading image files: preprocess's inspection, and decoding to a batch."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor
from torchvision.io import decode_jpeg, read_file
from torchvision.transforms.v2 import functional

from benchmarks.table import Row, check_ratio, format_rate, format_seconds
from benchmarks.timing import hide_progress_bars, measure_seconds, time_pairs
from detector.core.errors import UserError
from detector.core.images import load_letterboxed
from detector.preprocessing.inspection_cache import CLOCK_STEP, inspect_images

INSPECTION_TARGET = 0.8
CACHE_TARGET = 20.0
BATCH_TARGET = 1.8
CHUNK = 16


def decode_file(path: str) -> int:
    """Decode one file and return its number of pixels."""
    return int(decode_jpeg(read_file(path)).numel() // 3)


def decode_all(paths: list[Path], pool: Executor) -> int:
    """Decode every file in full and return the number of pixels."""
    return sum(pool.map(decode_file, map(str, paths), chunksize=CHUNK))


def use_one_thread() -> None:
    """Limit torch to one thread per worker."""
    torch.set_num_threads(1)


@contextmanager
def open_fastest_pool(paths: list[Path]) -> Iterator[tuple[str, Executor]]:
    """Open a warm pool of threads or processes, whichever decodes `paths` faster on this machine."""
    spawn = multiprocessing.get_context("spawn")
    with (
        ThreadPoolExecutor(os.cpu_count()) as threads,
        ProcessPoolExecutor(os.cpu_count(), spawn, use_one_thread) as processes,
    ):
        pools: dict[str, Executor] = {"threads": threads, "processes": processes}
        for pool in pools.values():
            decode_all(paths, pool)

        def fastest_of_two(name: str) -> float:
            return min(measure_seconds(lambda: decode_all(paths, pools[name])) for _ in range(2))

        best = min(pools, key=fastest_of_two)
        yield best, pools[best]


def inspect_without_cache(paths: list[Path], cache: Path) -> None:
    """Inspect all images with an empty cache, which is filled."""
    cache.unlink(missing_ok=True)
    inspect_and_check(paths, cache, opened=len(paths))


def inspect_and_check(paths: list[Path], cache: Path, opened: int) -> None:
    """Inspect all images. Raises UserError unless exactly `opened` files were opened and all are readable."""
    with hide_progress_bars():
        infos, count = inspect_images(paths, cache)
    if count != opened or not all(info.is_usable for info in infos):
        raise UserError(f"inspection opened {count} of {len(paths)} files; expected {opened}, all of them readable")


def inspection_row(paths: list[Path], cache: Path, pairs: int) -> Row:
    """The whole inspection against decoding alone, both on all cores."""
    with open_fastest_pool(paths) as (kind, pool):
        inspect_without_cache(paths, cache)  # warm up
        times = time_pairs(lambda: inspect_without_cache(paths, cache), lambda: decode_all(paths, pool), pairs)
    return Row(
        "preprocess's inspection, all cores",
        format_rate(len(paths), times.ours),
        f"{format_rate(len(paths), times.baseline)} decode_jpeg in {kind}",
        *check_ratio(times.ratio, INSPECTION_TARGET),
    )


def added_image_row(paths: list[Path], cache: Path, pairs: int) -> Row:
    """Inspection with a cache of all but the last image, against inspection without a cache."""
    old = paths[:-1]
    time.sleep(CLOCK_STEP)  # files that have only just changed are not remembered
    inspect_without_cache(old, cache)

    def with_cache() -> None:
        inspect_and_check(paths, cache, opened=1)

    def without_cache() -> None:
        inspect_without_cache(old, cache)

    times = time_pairs(with_cache, without_cache, pairs)
    return Row(
        f"preprocess's inspection, +1 image of {len(old):,}",
        format_seconds(times.ours),
        f"{format_seconds(times.baseline)} for all",
        *check_ratio(times.ratio, CACHE_TARGET),
    )


def uint8_batch(paths: list[Path], size: tuple[int, int]) -> Tensor:
    """uint8 [B, 3, H, W], as training, evaluation and export read images."""
    pixels = [load_letterboxed(path, size, (0, 0, 0)).pixels for path in paths]
    return torch.stack([torch.from_numpy(image.transpose(2, 0, 1).copy()) for image in pixels])


def float_batch(paths: list[Path], size: tuple[int, int]) -> Tensor:
    """float32 [B, 3, H, W]: decode in full, scale to 0..1, resize."""
    images = []
    for path in paths:
        with Image.open(path) as image:
            pixels = functional.pil_to_tensor(image.convert("RGB")).float() / 255
        images.append(functional.resize(pixels, list(size), antialias=True))
    return torch.stack(images)


def loading_row(paths: list[Path], size: tuple[int, int], pairs: int) -> Row:
    """Images/s in one thread; the images must have the aspect ratio of `size` (H, W)."""
    with Image.open(paths[0]) as image:
        sizes = f"{image.width}×{image.height} → {size[1]}"
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        uint8_batch(paths, size), float_batch(paths, size)  # warm up
        times = time_pairs(lambda: uint8_batch(paths, size), lambda: float_batch(paths, size), pairs)
    finally:
        torch.set_num_threads(threads)
    return Row(
        f"decode + resize to a batch, {sizes}, one thread",
        format_rate(len(paths), times.ours),
        f"{format_rate(len(paths), times.baseline)} PIL + float32",
        *check_ratio(times.ratio, BATCH_TARGET),
    )
