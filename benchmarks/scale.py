"""CPU time and memory of the stages on 10,000 to 1,000,000 images.

    python -m benchmarks.scale [--images 10000 100000 1000000] [--steps split near-duplicates]

The manifests are generated, without pixels: five boxes per image on average, twenty classes, states, near-duplicates
and sequences. So are the thumbnails that near-duplicates are searched in. Two more rows read the output of
coco-convert, as train and as evaluate do. The last row is the whole preprocess process after one image was added to
2,000. The exponent of growth is that of the CPU time from the next smaller number of images. Exit code 1 when a target
is missed.
"""

from __future__ import annotations

import argparse
import math
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.generated_thumbnails import SIDE, generate_thumbnails
from benchmarks.photographs import write_dataset, write_photographs
from benchmarks.table import Row, format_seconds, format_table
from benchmarks.timing import log_progress
from benchmarks.workspace import build_environment, copy_code, copy_repository
from detector.core.errors import UserError, run_command
from detector.manifest.manifest import CleanBox, CleanImage, Labels, write_labels, write_manifest
from detector.preprocessing.inspection_cache import CLOCK_STEP

IMAGES = (10_000, 100_000, 1_000_000)
BOXES = 5
CLASSES = [f"class{number:02}" for number in range(20)]
STATES = ["intact", "damaged", "absent", "occluded"]
MAX_GROWTH = 1.1  # exponent of the number of images
MAX_SEARCH_SECONDS = 600  # wall time of the near-duplicate search at any size
PHOTOGRAPHS = 2000
MAX_PREPROCESS_SECONDS = 0.8  # wall time with one more
SEARCH = """
import os
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as in stages/preprocess.py
import numpy as np
from detector.preprocessing.duplicates import find_near_duplicate_pairs
pixels = np.memmap("thumbnails.bin", np.uint8, "r").reshape(-1, {size})
print(len(find_near_duplicate_pairs([row.tobytes() for row in pixels], 0.85)))
"""
STEPS = {
    "split": ["stages/split.py"],
    "coco-convert": ["stages/coco_convert.py"],
    "near-duplicates": ["-c", SEARCH.format(size=SIDE**2)],
    "train's reading": [
        "-c",
        "from pathlib import Path; from detector.models.recipe import REFERENCE; "
        "from detector.training.training_data import load_training_data; "
        "kept = load_training_data(Path('data/coco'), REFERENCE)",
    ],
    "evaluate's reading": [
        "-c",
        "from pathlib import Path; from detector.engine.coco_stream import read_ground_truth; "
        "kept = [read_ground_truth(Path(f'data/coco/{s}.json')) for s in ('train', 'val', 'test')]",
    ],
}
MAX_MEMORY = {  # GiB
    "split": 2.0,
    "coco-convert": 2.0,
    "near-duplicates": 4.0,
    "train's reading": 1.5,
    "evaluate's reading": 1.5,
}


class Cost(NamedTuple):
    """CPU and wall seconds, and peak memory in GiB, of one process."""

    cpu: float
    wall: float
    memory: float


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--images", type=int, nargs="+", default=list(IMAGES))
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=list(STEPS))
    options = parser.parse_args(arguments)
    steps = [step for step in STEPS if step in options.steps]
    counts = sorted(options.images)
    costs = {}
    for count in counts:
        log_progress(f"{count:,} images")
        with tempfile.TemporaryDirectory() as folder:
            costs[count] = measure_steps(Path(folder) / "repository", count, steps)
    rows = []
    for step in steps:
        for before, count in zip([None, *counts], counts, strict=False):
            growth = None if before is None else growth_exponent(before, costs[before][step], count, costs[count][step])
            rows.append(cost_row(step, costs[count][step], count, growth))
    log_progress("preprocess after one new image")
    with tempfile.TemporaryDirectory() as folder:
        rows.append(preprocess_row(Path(folder)))
    print(format_table(rows))
    sys.exit(any(row.passed is False for row in rows))


def measure_steps(folder: Path, count: int, steps: list[str]) -> dict[str, Cost]:
    """The cost of each step on a manifest of `count` images; what reads the output of another needs that one too."""
    copy_code(folder)
    (folder / "split.lock").write_text("")
    clean = folder / "data/clean"
    clean.mkdir(parents=True)
    write_labels(clean / "labels.json", Labels(CLASSES, STATES))
    write_manifest(clean / "manifest.jsonl", generate_manifest(count))
    if "near-duplicates" in steps:
        with (folder / "thumbnails.bin").open("wb") as file:
            file.writelines(block.tobytes() for block in generate_thumbnails(count))
    return {step: measure_cost(folder, STEPS[step]) for step in steps}


def generate_manifest(count: int) -> Iterator[CleanImage]:
    """Images as preprocess writes them, every tenth a near-duplicate of its predecessor, a fifth in sequences."""
    source = random.Random(0)
    weights = [1.2**-k for k in range(len(CLASSES))]
    before = ""
    for number in range(count):
        path = f"data/raw/set/images/{number:08}.jpg"
        if number % 10:
            before = path
        labels = source.choices(CLASSES, weights, k=source.randint(0, 2 * BOXES))
        boxes = tuple(generate_box(source, label) for label in labels)
        sequence = f"walk {number // 20}" if number % 1000 < 200 else None
        content = f"{source.getrandbits(64):016x}"
        yield CleanImage(path, path, content, 640, 480, before or path, sequence, None, boxes)


def generate_box(source: random.Random, label: str) -> CleanBox:
    """A random box in the image."""
    left, top = source.uniform(0, 500), source.uniform(0, 400)
    right, bottom = left + source.uniform(8, 140), top + source.uniform(8, 80)
    corners = (round(left, 3), round(top, 3), round(right, 3), round(bottom, 3))
    return CleanBox(label, corners, source.choice(STATES), 1.0)


def measure_cost(folder: Path, arguments: list[str]) -> Cost:
    """Run a Python process and measure it."""
    started = time.perf_counter()
    with (folder / "output.txt").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=folder, env=build_environment(folder), stdout=output, stderr=output
        )
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise UserError(f"python {' '.join(arguments)} failed:\n{(folder / 'output.txt').read_text()[-2000:]}")
    wall = time.perf_counter() - started
    return Cost(usage.ru_utime + usage.ru_stime, wall, usage.ru_maxrss / 2**20)


def growth_exponent(count: int, cost: Cost, larger_count: int, larger_cost: Cost) -> float:
    """The power of the number of images that the CPU time grows with."""
    return math.log(larger_cost.cpu / cost.cpu) / math.log(larger_count / count)


def cost_row(step: str, cost: Cost, count: int, growth: float | None) -> Row:
    """One row; growth: exponent from the next smaller number of images, None for the smallest."""
    measured = f"{cost.memory:.2f} GiB, {format_seconds(cost.wall)} wall, {cost.cpu / count * 1e6:.0f} µs per image"
    target = f"≤ {MAX_MEMORY[step]:g} GiB"
    passed = cost.memory <= MAX_MEMORY[step]
    if step == "near-duplicates":
        target += f", {MAX_SEARCH_SECONDS} s"
        passed &= cost.wall <= MAX_SEARCH_SECONDS
    if growth is not None:
        measured += f", ^{growth:.2f}"
        target += f", ^{MAX_GROWTH}"
        passed &= growth <= MAX_GROWTH
    return Row(f"{step}, {count:,} images", format_seconds(cost.cpu), "", measured, target, passed)


def preprocess_row(folder: Path) -> Row:
    """The whole preprocess process after one image was added to PHOTOGRAPHS."""
    photographs = write_photographs(folder / "photographs" / "images", PHOTOGRAPHS + 1)
    listing, repository = folder / "photographs" / "dataset.jsonl", folder / "repository"
    copy_repository(repository, listing.parent)
    write_dataset(photographs[:-1], listing)
    time.sleep(CLOCK_STEP)  # or the second run would open the last ones again, too
    measure_cost(repository, ["stages/preprocess.py"])
    write_dataset(photographs, listing)
    cost = measure_cost(repository, ["stages/preprocess.py"])
    return Row(
        f"preprocess, +1 image of {PHOTOGRAPHS:,}",
        format_seconds(cost.cpu),
        "",
        f"{cost.memory:.2f} GiB, {format_seconds(cost.wall)} wall",
        f"≤ {MAX_PREPROCESS_SECONDS} s wall",
        cost.wall <= MAX_PREPROCESS_SECONDS,
    )


if __name__ == "__main__":
    run_command(main)
