"""Measure all speed targets against their baselines in one run and print one table.

command  python -m benchmarks.speed        (or `make bench`)
reads    stages/, tools/, dvc.yaml, params.yaml
writes   a temporary folder of about 150 MB, which is removed
time     about 5 minutes on 2 cores

Both sides of a comparison run alternately; figures are medians, and a ratio is the median of the pairs' ratios. A
missed target is marked in the table and is not an error.
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

from benchmarks.table import Row, format_table
from benchmarks.timing import log_progress
from detector.core.errors import UserError, run_command
from detector.engine.environment import check_torch

PACKAGES = ("torch", "torchvision", "pillow", "hotcoco", "pycocotools", "dvc")
PHOTOGRAPHS = 2000
BATCH = 64
SAMPLE = 400
INPUT = (240, 320)  # height, width


def main() -> None:
    check_environment()
    start = time.perf_counter()
    head = describe_machine()
    rows: list[Row] = []
    try:
        with tempfile.TemporaryDirectory(prefix="bench-") as scratch:
            rows.extend(measure_rows(Path(scratch)))
    finally:  # also after an error or Ctrl-C
        print(f"{head}\n\n{format_table(rows)}\n\nmeasured in {time.perf_counter() - start:.0f} s")


def check_environment() -> None:
    """Raise UserError, or exit, when something is not installed."""
    check_torch()
    if shutil.which("git") is None:
        raise UserError("git is not on the PATH; `dvc repro` is measured in a git repository. Install git.")
    try:
        for name in PACKAGES:
            version(name)
    except PackageNotFoundError as error:
        raise UserError(f"{error.name} is not installed in {sys.prefix}; run `make install`") from None


def describe_machine() -> str:
    """Date, processor, cores, load and versions."""
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    load = f"load {os.getloadavg()[0]:.1f} at start" if hasattr(os, "getloadavg") else "load unknown"
    python = f"Python {platform.python_version()}"
    return f"{time.strftime('%Y-%m-%d')}, {processor_name()}, {os.cpu_count()} cores, {load}\n{python}, {versions}"


def processor_name() -> str:
    """The name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, "") or platform.processor() or platform.machine()


def measure_rows(scratch: Path) -> Iterator[Row]:
    """Measure all rows. Slow imports come after the check of the environment."""
    from benchmarks.photographs import write_photographs

    log_progress(f"writing {PHOTOGRAPHS:,} photographs")
    photographs = write_photographs(scratch / "photographs" / "images", PHOTOGRAPHS + 1)
    smaller = write_photographs(scratch / "smaller", BATCH, (500, 375))
    yield from measure_images(photographs, smaller, scratch / "cache.sqlite")
    yield from measure_processes(photographs, scratch)
    yield measure_evaluation()
    yield from measure_training(photographs[:BATCH])


def measure_images(photographs: list[Path], smaller: list[Path], cache: Path) -> Iterator[Row]:
    """Measure the reading of image files."""
    from benchmarks.image_reading import added_image_row, inspection_row, loading_row

    log_progress("decode and resize")
    yield loading_row(photographs[:BATCH], INPUT, pairs=9)
    yield loading_row(smaller, INPUT, pairs=9)
    log_progress("preprocess's inspection")
    yield inspection_row(photographs[:-1], cache, pairs=5)
    yield added_image_row(photographs, cache, pairs=5)


def measure_processes(photographs: list[Path], scratch: Path) -> Iterator[Row]:
    """Measure whole commands."""
    from benchmarks.stage_runtime import preprocess_row, repro_row, stage_row
    from benchmarks.workspace import copy_repository, make_sample

    log_progress("preprocess, whole process")
    listing = photographs[0].parents[1] / "dataset.jsonl"
    copy_repository(scratch / "preprocess", listing.parent)
    yield preprocess_row(scratch / "preprocess", photographs, listing, pairs=2)
    log_progress("split and coco_convert on the sample")
    sample = scratch / "sample"
    copy_repository(sample, Path("data/raw/sample"))
    make_sample(sample, SAMPLE)
    yield stage_row(sample, "split", runs=9)
    yield stage_row(sample, "coco_convert", runs=9)
    log_progress("dvc repro with nothing to do")
    yield repro_row(sample, scratch / "trivial", pairs=7)


def measure_evaluation() -> Row:
    """Measure COCO evaluation."""
    from benchmarks.coco_evaluation import evaluation_row

    log_progress("COCO evaluation")
    return evaluation_row(images=2000, detections=52, pairs=3)


def measure_training(photographs: list[Path]) -> Iterator[Row]:
    """Measure training steps."""
    from benchmarks.training_steps import MODEL_PAIRS, training_row

    for pair in MODEL_PAIRS:
        log_progress(f"training {pair.name}")
        yield training_row(pair, photographs, batch=8, pairs=5, steps=2)


if __name__ == "__main__":
    run_command(main)
