"""Split and coco-convert on manifests of 10,000 to 1,000,000 images: time and memory, each stage a process.

    python -m benchmarks.scale [--images 10000 100000 1000000]

The manifests are made up (no pixels): five boxes an image of twenty classes with states, near-duplicates and sequences.
Two more rows read what coco-convert wrote: as train does, all three files packed into arrays, and as evaluate does, all
three kept as they are. Ends with 1 when a stage took more than 2 GiB, or time grew faster than the images.
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

from benchmarks.table import Row, markdown, seconds
from benchmarks.timing import say
from benchmarks.workspace import copy_code, environment
from detector.core.errors import UserError, run_command
from detector.manifest.manifest import CleanBox, CleanImage, Labels, write_labels, write_manifest

IMAGES = (10_000, 100_000, 1_000_000)
BOXES = 5
CLASSES = [f"class{number:02}" for number in range(20)]
STATES = ["intact", "damaged", "absent", "occluded"]
MOST_GB = 2.0
STEEPEST = 1.3  # of time: this much more an image than with the fewest images, whose start of Python it includes
READ = "from pathlib import Path; from detector.engine.dataset import {names}; "
STEPS = {
    "split": ["stages/split.py"],
    "coco-convert": ["stages/coco_convert.py"],
    "train's reading": [
        "-c",
        READ.format(names="pack, read_coco")
        + "kept = [pack(read_coco(Path(f'data/coco/{s}.json'))) for s in ('train', 'val', 'test')]",
    ],
    "evaluate's reading": [
        "-c",
        READ.format(names="read_coco")
        + "kept = [read_coco(Path(f'data/coco/{s}.json')) for s in ('train', 'val', 'test')]",
    ],
}
LIMITED = ("split", "coco-convert")


class Cost(NamedTuple):
    """Of one process: seconds of a CPU, which other processes hardly change, and the most memory it had, in GiB."""

    cpu: float
    memory: float


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--images", type=int, nargs="+", default=list(IMAGES))
    counts = sorted(parser.parse_args(arguments).images)
    costs = {}
    for count in counts:
        say(f"{count:,} images")
        with tempfile.TemporaryDirectory() as folder:
            costs[count] = measure(Path(folder) / "repository", count)
    first = counts[0]
    rows = [row(step, costs[count][step], count, costs[first][step], first) for step in STEPS for count in counts]
    print(markdown(rows))
    sys.exit(any(row.passed is False for row in rows))


def measure(folder: Path, count: int) -> dict[str, Cost]:
    """What each step costs on a manifest of `count` images."""
    copy_code(folder)
    (folder / "split.lock").write_text("")
    clean = folder / "data/clean"
    clean.mkdir(parents=True)
    write_labels(clean / "labels.json", Labels(CLASSES, STATES))
    write_manifest(clean / "manifest.jsonl", made_up(count))
    return {step: cost_of(folder, arguments) for step, arguments in STEPS.items()}


def made_up(count: int) -> Iterator[CleanImage]:
    """Images as preprocess writes them; every tenth is a near-duplicate of the one before, some are of a sequence."""
    source = random.Random(0)
    weights = [1.2**-k for k in range(len(CLASSES))]
    before = ""
    for number in range(count):
        path = f"data/raw/set/images/{number:08}.jpg"
        if number % 10:
            before = path
        boxes = tuple(box(source, label) for label in source.choices(CLASSES, weights, k=source.randint(0, 2 * BOXES)))
        sequence = f"walk {number // 20}" if number % 1000 < 200 else None
        content = f"{source.getrandbits(64):016x}"
        yield CleanImage(path, path, content, 640, 480, before or path, sequence, None, boxes)


def box(source: random.Random, label: str) -> CleanBox:
    """Somewhere in the image."""
    left, top = source.uniform(0, 500), source.uniform(0, 400)
    right, bottom = left + source.uniform(8, 140), top + source.uniform(8, 80)
    corners = (round(left, 3), round(top, 3), round(right, 3), round(bottom, 3))
    return CleanBox(label, corners, source.choice(STATES), 1.0)


def cost_of(folder: Path, arguments: list[str]) -> Cost:
    """Run a Python process to its end."""
    with (folder / "output.txt").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, *arguments], cwd=folder, env=environment(folder), stdout=output, stderr=output
        )
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise UserError(f"python {' '.join(arguments)} failed:\n{(folder / 'output.txt').read_text()[-2000:]}")
    return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 2**20)


def row(step: str, cost: Cost, count: int, least: Cost, fewest: int) -> Row:
    """One line of the curve; only the two stages have a limit."""
    share = (cost.cpu / count) / (least.cpu / fewest)
    measured = f"{cost.memory:.2f} GiB, {cost.cpu / count * 1e6:.0f} µs an image"
    if step not in LIMITED:
        return Row(f"{step}, {count:,} images", seconds(cost.cpu), "", measured)
    passed = cost.memory < MOST_GB and share < STEEPEST
    return Row(f"{step}, {count:,} images", seconds(cost.cpu), "", measured, f"< {MOST_GB:g} GiB, linear", passed)


if __name__ == "__main__":
    run_command(main)
