"""CPU time and memory of split and coco-convert on 10,000 to 1,000,000 images.

    python -m benchmarks.scale [--images 10000 100000 1000000]

The manifests are generated, without pixels: five boxes per image on average, twenty classes, states, near-duplicates
and sequences. Two more rows read the output of coco-convert: like train, packed into arrays, and like evaluate, as
dictionaries. Exit code 1 when a stage needs more than 2 GiB, or its time grows faster than the number of images.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.table import Row, format_seconds, format_table
from benchmarks.timing import log_progress
from benchmarks.workspace import build_environment, copy_code
from detector.core.errors import UserError, run_command
from detector.manifest.manifest import CleanBox, CleanImage, Labels, write_labels, write_manifest

IMAGES = (10_000, 100_000, 1_000_000)
BOXES = 5
CLASSES = [f"class{number:02}" for number in range(20)]
STATES = ["intact", "damaged", "absent", "occluded"]
MAX_MEMORY_GB = 2.0
MAX_TIME_GROWTH = 1.3  # time per image relative to the smallest dataset, which includes the start of Python
READ = "from pathlib import Path; from detector.engine.dataset import {names}; "
STEPS = {
    "split": ["stages/split.py"],
    "coco-convert": ["stages/coco_convert.py"],
    "train's reading": [
        "-c",
        READ.format(names="load_coco, pack_annotations")
        + "kept = [pack_annotations(load_coco(Path(f'data/coco/{s}.json'))) for s in ('train', 'val', 'test')]",
    ],
    "evaluate's reading": [
        "-c",
        READ.format(names="load_coco")
        + "kept = [load_coco(Path(f'data/coco/{s}.json')) for s in ('train', 'val', 'test')]",
    ],
}
LIMITED = ("split", "coco-convert")


class Cost(NamedTuple):
    """CPU seconds and peak memory in GiB of one process."""

    cpu: float
    memory: float


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--images", type=int, nargs="+", default=list(IMAGES))
    counts = sorted(parser.parse_args(arguments).images)
    costs = {}
    for count in counts:
        log_progress(f"{count:,} images")
        with tempfile.TemporaryDirectory() as folder:
            costs[count] = measure_steps(Path(folder) / "repository", count)
    first = counts[0]
    rows = [cost_row(step, costs[count][step], count, costs[first][step], first) for step in STEPS for count in counts]
    print(format_table(rows))
    sys.exit(any(row.passed is False for row in rows))


def measure_steps(folder: Path, count: int) -> dict[str, Cost]:
    """The cost of each step on a manifest of `count` images."""
    copy_code(folder)
    (folder / "split.lock").write_text("")
    clean = folder / "data/clean"
    clean.mkdir(parents=True)
    write_labels(clean / "labels.json", Labels(CLASSES, STATES))
    write_manifest(clean / "manifest.jsonl", generate_manifest(count))
    return {step: measure_cost(folder, arguments) for step, arguments in STEPS.items()}


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
    with (folder / "output.txt").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=folder, env=build_environment(folder), stdout=output, stderr=output
        )
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise UserError(f"python {' '.join(arguments)} failed:\n{(folder / 'output.txt').read_text()[-2000:]}")
    return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20)


def cost_row(step: str, cost: Cost, count: int, least: Cost, fewest: int) -> Row:
    """One row; only the two stages have a target."""
    growth = (cost.cpu / count) / (least.cpu / fewest)
    measured = f"{cost.memory:.2f} GiB, {cost.cpu / count * 1e6:.0f} µs per image"
    row = Row(f"{step}, {count:,} images", format_seconds(cost.cpu), "", measured)
    if step not in LIMITED:
        return row
    passed = cost.memory < MAX_MEMORY_GB and growth < MAX_TIME_GROWTH
    return row._replace(target=f"< {MAX_MEMORY_GB:g} GiB, linear", passed=passed)


if __name__ == "__main__":
    run_command(main)
