"""preprocess's inspection of all images, beside a bare decoder and beside itself with a memory."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import torch
from torchvision.io import decode_jpeg, read_file

from benchmarks.table import Row, at_least, rate, seconds
from benchmarks.timing import compare, quiet, timed
from detector.core.errors import UserError
from detector.preprocessing.inspection_cache import inspect_all

TARGET = 0.8
TARGET_ONE_MORE = 20.0
CHUNK = 16


def decode(path: str) -> int:
    """Decode one file and forget it; its number of pixels."""
    return decode_jpeg(read_file(path)).numel() // 3


def decode_all(paths: list[Path], pool: Executor) -> int:
    """The bare loop: decode every file in full."""
    return sum(pool.map(decode, map(str, paths), chunksize=CHUNK))


def one_thread() -> None:
    """Keep torch from adding threads to a worker's own."""
    torch.set_num_threads(1)


@contextmanager
def fastest_pool(paths: list[Path]) -> Iterator[tuple[str, Executor]]:
    """Threads or processes, whichever decodes `paths` faster here, started and warm."""
    spawn = multiprocessing.get_context("spawn")
    with (
        ThreadPoolExecutor(os.cpu_count()) as threads,
        ProcessPoolExecutor(os.cpu_count(), spawn, one_thread) as processes,
    ):
        pools: dict[str, Executor] = {"threads": threads, "processes": processes}
        for pool in pools.values():
            decode_all(paths, pool)
        best = min(pools, key=lambda name: min(timed(lambda: decode_all(paths, pools[name])) for _ in range(2)))
        yield best, pools[best]


def inspect_anew(paths: list[Path], memory: Path) -> None:
    """Inspect with an empty memory, and leave it filled."""
    memory.unlink(missing_ok=True)
    inspect_expecting(paths, memory, opened=len(paths))


def inspect_expecting(paths: list[Path], memory: Path, opened: int) -> None:
    """Inspect, and refuse to go on when other than `opened` files had to be opened, or one is broken."""
    with quiet():
        facts, found = inspect_all(paths, memory)
    if found != opened or any(fact.error for fact in facts):
        raise UserError(f"inspect_all opened {found} of {len(paths)} files; expected {opened}, all of them readable")


def inspection_row(paths: list[Path], memory: Path, pairs: int) -> Row:
    """All cores against all cores."""
    with fastest_pool(paths) as (kind, pool):
        inspect_anew(paths, memory)  # warm up
        times = compare(lambda: inspect_anew(paths, memory), lambda: decode_all(paths, pool), pairs)
    return Row(
        "preprocess's inspection, all cores",
        rate(len(paths), times.here),
        f"{rate(len(paths), times.beside)} decode_jpeg in {kind}",
        *at_least(times.ratio, TARGET),
    )


def one_more_row(paths: list[Path], memory: Path, pairs: int) -> Row:
    """The last of `paths` is new to a memory of all others, against all others anew."""
    old = paths[:-1]
    inspect_anew(old, memory)

    def one_more() -> None:
        inspect_expecting(paths, memory, opened=1)

    def anew() -> None:
        inspect_anew(old, memory)

    times = compare(one_more, anew, pairs)
    return Row(
        f"preprocess's inspection, +1 image of {len(old):,}",
        seconds(times.here),
        f"{seconds(times.beside)} for all",
        *at_least(times.ratio, TARGET_ONE_MORE),
    )
