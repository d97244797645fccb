"""What DVC costs on 20,000 small images: as files, and as tar shards of the same images.

    python -m benchmarks.many_files [--images 20000]

For each: `dvc add`, `dvc status`, `dvc push` to a folder, and all three again after 1% more images came. Seconds of a
CPU; the first row of the shards is tools/archive.py, which the files do not need.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.scale import Cost, cost_of
from benchmarks.table import Row, markdown, seconds
from benchmarks.timing import say
from benchmarks.workspace import call, copy_code, dvc
from detector.core.errors import run_command

IMAGES = 20_000
DATASET = "data/raw/set"
SOURCE = "incoming"
STEPS = ("add", "status", "push")


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--images", type=int, default=IMAGES)
    count = parser.parse_args(arguments).images
    with tempfile.TemporaryDirectory() as folder:
        files, shards = (measure(Path(folder) / kind, kind, count) for kind in ("files", "shards"))
    rows = [
        Row(step, seconds(shards[step].cpu), seconds(files[step].cpu) if step in files else "",
            f"{files[step].cpu / shards[step].cpu:.1f} ×" if step in files else "")
        for step in shards
    ]  # fmt: skip
    print(f"{count:,} images: here shards, beside them files")
    print(markdown(rows))


def measure(folder: Path, kind: str, count: int) -> dict[str, Cost]:
    """What each step costs in a repository of its own."""
    say(kind)
    repository = folder / "repository"
    copy_code(repository)
    call(repository, "git", "init", "--quiet")
    dvc(repository, "remote", "add", "--default", "storage", str(folder / "storage"))
    costs = {}
    for when, first, last in (("", 0, count), (", 1% more", count, count + count // 100)):
        write_images(repository / (DATASET if kind == "files" else SOURCE), first, last)
        if kind == "shards":
            costs[f"tools/archive.py{when}"] = cost_of(repository, ["tools/archive.py", SOURCE, DATASET])
        for step in STEPS:
            target = [DATASET] if step == "add" else [f"{DATASET}.dvc"]
            costs[f"dvc {step}{when}"] = cost_of(repository, ["-m", "dvc", step, *target])
    return costs


def write_images(folder: Path, first: int, last: int) -> None:
    """JPEGs of about 2 kB, each another one, and their lines."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    source = np.random.default_rng(first)
    with (folder / "dataset.jsonl").open("a") as lines:
        for number in range(first, last):
            path = f"images/{number:06}.jpg"
            pixels = source.integers(0, 256, (48, 64, 3), np.uint8)
            Image.fromarray(pixels).save(folder / path, quality=50)
            lines.write(json.dumps({"image_path": path, "bounding_box_annotations": []}) + "\n")


if __name__ == "__main__":
    run_command(main)
