"""How many label errors the list of suspects finds: errors are planted in the sample, and looked for.

command  python -m benchmarks.label_errors [--quick] [--seed 0]     (or `make bench-labels`)
reads    stages/, tools/sample_data.py, params.yaml
writes   .cache/bench-labels/: a copy of the repository with the sample, its errors and a detector trained on them
prints   for each kind of error, how many of the planted ones are in the list, and how many of the list are planted
time     about 5 minutes on 2 cores; --quick trains 3 epochs, which shows that it runs

After preprocess, every kind of error is planted in 5% of the boxes, each box having one at most, in train, val and
test alike; then the default model is trained and evaluated by the stages. The list of a kind is read down to a
length of 10% of the boxes. An entry is right when it is of the planted kind and at the planted place.
"""

from __future__ import annotations

import argparse
import csv
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks.speed import machine
from benchmarks.table import Row, markdown
from benchmarks.timing import say
from benchmarks.trainings import write_params
from benchmarks.workspace import ROOT, call, copy_code, python
from detector.core.boxes import pairwise_iou_xyxy
from detector.core.errors import run_command
from detector.core.params import parse_yaml
from detector.manifest.decisions import KINDS
from detector.manifest.manifest import CleanBox, CleanImage, Labels, read_labels, read_manifest, write_manifest

HOME = ROOT / ".cache/bench-labels"
SHARE = 0.05  # of the boxes that get an error, for each kind
READ = 0.10  # of the number of boxes, how far down a list is read
TARGET = 0.70
MOVED = (0.3, 0.7)  # IoU of a badly drawn box with the true one
DOUBLED = (0.6, 0.9)  # of a second box with the first; preprocess itself drops closer ones
XYXY = tuple[float, float, float, float]


class Place(NamedTuple):
    """An error, planted or listed: in which image, of which kind, and where (pixels)."""

    image: str
    kind: str
    xyxy: XYXY


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="3 epochs: shows only that it runs")
    parser.add_argument("--seed", type=int, default=0, help="of the errors that are planted; default: 0")
    arguments = parser.parse_args()
    head = machine()
    shutil.rmtree(HOME, ignore_errors=True)
    copy_code(HOME)
    (HOME / "split.lock").touch()
    if arguments.quick:
        params = parse_yaml((HOME / "params.yaml").read_text(encoding="utf-8"))
        params["train"]["epochs"] = 3
        write_params(HOME, params)
    python(HOME, "tools/sample_data.py", "--out", "data/raw/sample")
    python(HOME, "stages/preprocess.py")
    manifest = HOME / "data/clean/manifest.jsonl"
    images = list(read_manifest(manifest))
    spoiled, planted = plant(images, read_labels(HOME / "data/clean/labels.json"), present(), arguments.seed)
    write_manifest(manifest, spoiled)
    call(HOME, "git", "init", "--quiet")  # DVCLive wants a commit to stand on
    call(HOME, "git", "add", "params.yaml")
    call(HOME, "git", "-c", "user.name=bench", "-c", "user.email=bench@localhost", "commit", "--quiet", "-m", "bench")
    for stage in ("split", "coco_convert", "train", "evaluate"):
        say(stage)
        python(HOME, f"stages/{stage}.py")
    boxes = sum(len(image.boxes) for image in spoiled)
    listed = read_list(HOME / "metrics/evaluate/suspects.csv")
    print(f"{head}, {boxes} boxes\n\n{markdown(rows_of(planted, listed, boxes))}")


def present() -> list[str]:
    """The states in which an object is there to be found."""
    params = parse_yaml((HOME / "params.yaml").read_text(encoding="utf-8"))
    states: list[str] = params["coco_convert"]["present_states"]
    return states


def plant(
    images: Sequence[CleanImage], labels: Labels, present: Sequence[str], seed: int
) -> tuple[list[CleanImage], list[Place]]:
    """The images with errors in SHARE of their boxes for each kind, and where they are."""
    rng = np.random.default_rng(seed)
    everything = [(row, place) for row, image in enumerate(images) for place in range(len(image.boxes))]
    count = round(SHARE * len(everything))
    free = [everything[index] for index in rng.permutation(len(everything))]
    boxes: list[list[CleanBox | None]] = [list(image.boxes) for image in images]
    planted: list[Place] = []
    for kind in KINDS:
        done = 0
        while done < count:
            # A state can be wrong of any object; the others are errors only of one that is there to be found.
            index = next(i for i, (row, place) in enumerate(free)
                         if kind == "wrong_state" or images[row].boxes[place].state in present)  # fmt: skip
            row, place = free.pop(index)
            error = _error(kind, images[row], images[row].boxes[place], labels, rng)
            if error is None:
                continue
            wrong, where = error
            if kind in ("spurious_box", "duplicate_box"):
                boxes[row].append(wrong)
            else:
                boxes[row][place] = wrong
            planted.append(Place(images[row].image, kind, where))
            done += 1
    spoiled = [
        replace(image, boxes=tuple(box for box in kept if box is not None))
        for image, kept in zip(images, boxes, strict=True)
    ]
    return spoiled, planted


def _error(
    kind: str, image: CleanImage, box: CleanBox, labels: Labels, rng: np.random.Generator
) -> tuple[CleanBox | None, XYXY] | None:
    """What a box becomes, or for an additional box what comes beside it, and where; None if that cannot be done."""
    if kind == "missing_box":
        return None, box.xyxy
    if kind == "wrong_class":
        return replace(box, label=_other(box.label, labels.classes, rng)), box.xyxy
    if kind == "wrong_state":
        return (replace(box, state=_other(box.state, labels.states, rng)), box.xyxy) if box.state else None
    if kind == "spurious_box":
        xyxy = _on_nothing(image, box, rng)
        wrong = replace(box, label=labels.classes[rng.integers(len(labels.classes))])
    else:
        xyxy, wrong = _drawn_badly(image, box, MOVED if kind == "bad_location" else DOUBLED, rng), box
    return None if xyxy is None else (replace(wrong, xyxy=xyxy), xyxy)


def _other(name: str | None, names: Sequence[str], rng: np.random.Generator) -> str:
    others = [other for other in names if other != name]
    return others[rng.integers(len(others))]


def _drawn_badly(image: CleanImage, box: CleanBox, ious: tuple[float, float], rng: np.random.Generator) -> XYXY | None:
    """The box with each side moved, so that its IoU with the true one lies between `ious`."""
    width, height = box.xyxy[2] - box.xyxy[0], box.xyxy[3] - box.xyxy[1]
    for _ in range(200):
        moves = rng.uniform(-0.5, 0.5, 4) * np.array([width, height] * 2)
        xyxy = _clipped(np.array(box.xyxy) + moves, image)
        if ious[0] <= iou(xyxy, [box.xyxy])[0] <= ious[1]:
            return xyxy
    return None


def _on_nothing(image: CleanImage, box: CleanBox, rng: np.random.Generator) -> XYXY | None:
    """A box as large as `box` where no box is."""
    width, height = box.xyxy[2] - box.xyxy[0], box.xyxy[3] - box.xyxy[1]
    for _ in range(200):
        left, top = rng.uniform(0, image.width - width), rng.uniform(0, image.height - height)
        xyxy = _clipped(np.array([left, top, left + width, top + height]), image)
        if iou(xyxy, [other.xyxy for other in image.boxes]).max() < 0.05:
            return xyxy
    return None


def _clipped(xyxy: np.ndarray, image: CleanImage) -> XYXY:
    left, top, right, bottom = np.clip(xyxy, 0, [image.width, image.height] * 2).round(3).tolist()
    return left, top, right, bottom


def iou(xyxy: XYXY, others: Sequence[XYXY]) -> np.ndarray:
    """IoU [N] of a box with N others."""
    return pairwise_iou_xyxy(np.array([xyxy]), np.array(others).reshape(-1, 4))[0]


def read_list(path: Path) -> list[Place]:
    """The suspects, worst first."""
    with path.open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    places = []
    for line in lines:
        left, top, width, height = (float(line[name]) for name in ("left", "top", "width", "height"))
        places.append(Place(line["file"], line["kind"], (left, top, left + width, top + height)))
    return places


def rows_of(planted: list[Place], listed: list[Place], boxes: int) -> list[Row]:
    """A row a kind, of its own list; and one of the whole list down to as many as were planted."""
    rows = []
    for kind in KINDS:
        wanted = [place for place in planted if place.kind == kind]
        read = [place for place in listed if place.kind == kind][: round(READ * boxes)]
        rows.append(_row(kind, wanted, read))
    everything = _row("all kinds", planted, listed[: len(planted)])
    return [*rows, everything._replace(target="", passed=None)]


def _row(name: str, wanted: list[Place], read: list[Place]) -> Row:
    found = [any(_same(place, entry) for entry in read) for place in wanted]
    right = [any(_same(place, entry) for place in wanted) for entry in read]
    recall = sum(found) / max(1, len(wanted))
    return Row(
        name,
        f"{sum(found)} of {len(wanted)} found",
        f"{sum(right)} of {len(read)} read are right",
        f"{recall:.1%}",
        f"≥ {TARGET:.0%}",
        recall >= TARGET,
    )


def _same(place: Place, entry: Place) -> bool:
    """Whether an entry of the list is about a planted error; of a double box either may be listed."""
    if (place.image, place.kind) != (entry.image, entry.kind):
        return False
    return bool(iou(place.xyxy, [entry.xyxy])[0] >= (0.5 if place.kind in ("missing_box", "duplicate_box") else 0.99))


if __name__ == "__main__":
    run_command(main)
