"""Measure this machine: every promise about speed beside its peer, in one run, as one table.

command  python -m benchmarks.speed        (or `make bench`)
reads    stages/, tools/, dvc.yaml, params.yaml
writes   a temporary folder of about 150 MB, which it removes
time     about 5 minutes on 2 cores

Two things that are compared run in turn; the figures are medians, and a ratio is the median of the
pairs' ratios. A missed target is a word in the table, not an error.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks.table import Row, markdown
from benchmarks.timing import say
from detector.core.errors import UserError, run_command
from detector.engine.environment import check_torch

PACKAGES = ("torch", "torchvision", "pillow", "hotcoco", "pycocotools", "dvc")
PHOTOGRAPHS = 2000
BATCH = 64
SAMPLE = 400
INPUT = (240, 320)  # height, width: a longer side of 320


def main() -> None:
    check_environment()
    start = time.perf_counter()
    head = machine()
    rows: list[Row] = []
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
            rows.extend(measure(Path(scratch)))
    finally:  # what was measured before an error or Ctrl-C is shown too
        print(f"{head}\n\n{markdown(rows)}\n\nmeasured in {time.perf_counter() - start:.0f} s")


def check_environment() -> None:
    """Raise UserError, or exit, with advice when something is not installed."""
    check_torch()
    if shutil.which("git") is None:
        raise UserError("git is not on the PATH; `dvc repro` is measured in a git repository. Install git.")
    try:
        for name in PACKAGES:
            version(name)
    except PackageNotFoundError as error:
        raise UserError(f"{error.name} is not installed in {sys.prefix}; run `make install`") from None


def machine() -> str:
    """Date, processor, cores, how busy they are, and versions."""
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    load = f"load {os.getloadavg()[0]:.1f} at the start" if hasattr(os, "getloadavg") else "load unknown"
    python = f"Python {platform.python_version()}"
    return f"{time.strftime('%Y-%m-%d')}, {processor()}, {os.cpu_count()} cores, {load}\n{python}, {versions}"


def processor() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def measure(scratch: Path) -> Iterator[Row]:
    """All rows. What they import is slow to load, so it is loaded once the environment was checked."""
    from benchmarks.photographs import write_photographs

    say(f"writing {PHOTOGRAPHS:,} photographs")
    photographs = write_photographs(scratch / "photographs" / "images", PHOTOGRAPHS + 1)
    smaller = write_photographs(scratch / "smaller", BATCH, (500, 375))
    yield from measure_images(photographs, smaller, scratch / "memory.sqlite")
    yield from measure_processes(photographs, scratch)
    yield measure_evaluation()
    yield from measure_training(photographs[:BATCH])


def measure_images(photographs: list[Path], smaller: list[Path], memory: Path) -> Iterator[Row]:
    """The rows about reading image files."""
    from benchmarks.inspecting import inspection_row, one_more_row
    from benchmarks.loading import loading_row

    say("decode and resize")
    yield loading_row(photographs[:BATCH], INPUT, pairs=9)
    yield loading_row(smaller, INPUT, pairs=9)
    say("preprocess's inspection")
    yield inspection_row(photographs[:-1], memory, pairs=5)
    yield one_more_row(photographs, memory, pairs=5)


def measure_processes(photographs: list[Path], scratch: Path) -> Iterator[Row]:
    """The rows about whole commands."""
    from benchmarks.running import preprocess_row, repro_row, stage_row
    from benchmarks.workspace import copy_repository, make_sample

    say("preprocess, whole process")
    listing = photographs[0].parents[1] / "dataset.jsonl"
    copy_repository(scratch / "preprocess", listing.parent)
    yield preprocess_row(scratch / "preprocess", photographs, listing, pairs=2)
    say("split and coco_convert on the sample")
    sample = scratch / "sample"
    copy_repository(sample, Path("data/raw/sample"))
    make_sample(sample, SAMPLE)
    yield stage_row(sample, "split", runs=9)
    yield stage_row(sample, "coco_convert", runs=9)
    say("dvc repro with nothing to do")
    yield repro_row(sample, scratch / "floor", pairs=7)


def measure_evaluation() -> Row:
    """The row about COCO evaluation."""
    from benchmarks.evaluating import evaluation_row

    say("COCO evaluation")
    return evaluation_row(images=2000, detections=52, pairs=3)


def measure_training(photographs: list[Path]) -> Iterator[Row]:
    """The rows about training steps."""
    from benchmarks.training import CONTESTS, training_row

    for contest in CONTESTS:
        say(f"training {contest.name}")
        yield training_row(contest, photographs, batch=8, pairs=5, steps=2)


if __name__ == "__main__":
    run_command(main)
