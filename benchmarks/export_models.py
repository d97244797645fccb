"""Write each model's ONNX file and print what it is and how alike it answers: the table of docs/export.md.

command  python -m benchmarks.export_models [--models simple ssdlite ...]
reads    stages/, tests/trained_like.py
writes   .cache/bench-export/
prints   a row as soon as a model is done: opset, bytes, the batch sizes it answers, differences from PyTorch
time     minutes for all on 2 cores, most of them for the models with ResNet-50

Weights are random, but every layer's outputs are scaled as after training, so that scores are spread. How alike PyTorch
answers when each weight changes by a rounding says what of the difference is not the file's.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx

from benchmarks.deployed import Deployed, Images, deploy, pictures
from benchmarks.models import line
from benchmarks.speed import machine
from benchmarks.timing import say
from benchmarks.workspace import ROOT
from detector.core.errors import UserError, run_command
from detector.exporting.gate import WEAK
from detector.exporting.parity import Difference, difference
from detector.models import MODELS
from detector.runners.tiled import Runner

HOME = ROOT / ".cache/bench-export"
HEAD = (
    "model",
    "opset",
    "size",
    "batches",
    "images alike",
    "with jittered weights",
    "box differs by",
    "score differs by",
)
BATCHES = (1, 2, 3, 7)
PARITY_BATCHES = (1, 2, 8)
PARITY_IMAGES = 55  # five rounds of these batches
BOX, SCORE = 0.5, 1e-3  # what params.yaml allows: pixels, and 0..1
MOST = 100  # detections of an image


class Alike(NamedTuple):
    """images: on which both sides answer alike, of how many; median differences of those that they share."""

    images: int
    of: int
    box: float
    score: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    arguments = parser.parse_args()
    print(f"{machine()}\n\n{head_lines(HEAD)}", flush=True)
    for name in arguments.models:
        say(name)
        print(line(cells(deploy(name, HOME))), flush=True)


def head_lines(head: tuple[str, ...]) -> str:
    """The first two lines of a table."""
    return f"{line(head)}\n{line(['---'] * len(head))}"


def cells(deployed: Deployed) -> list[str]:
    """One row of the table."""
    images = pictures(PARITY_IMAGES, first=100)
    alike = compare_answers(deployed.eager, deployed.file, images)
    jittered = compare_answers(deployed.eager, deployed.nearby, images)
    return [
        f"`{deployed.name}`",
        str(opset_of(deployed.path)),
        f"{deployed.path.stat().st_size / 1e6:.1f} MB",
        answered(deployed.file, pictures(max(BATCHES))),
        f"{alike.images} of {alike.of}",
        f"{jittered.images} of {jittered.of}",
        f"{alike.box:.0e} pixels",
        f"{alike.score:.0e}",
    ]


def opset_of(path: Path) -> int:
    """The version of ONNX's own operators that a file uses."""
    (version,) = (entry.version for entry in onnx.load(path).opset_import if entry.domain == "")
    return int(version)


def answered(file: Runner, images: Images) -> str:
    """The batch sizes that get as many answers; one that is refused is left out, and fewer answers are told."""
    sizes = []
    for batch in BATCHES:
        try:
            answers = len(file(images[:batch]))
        except UserError:  # a file with a fixed batch says so
            continue
        sizes.append(str(batch) if answers == batch else f"{batch} (only {answers} answered!)")
    return ", ".join(sizes)


def compare_answers(one: Runner, other: Runner, images: Images) -> Alike:
    """Both on the same images in batches of PARITY_BATCHES in turn."""
    found: list[Difference] = []
    first = turn = 0
    while first < len(images):
        batch = images[first : first + PARITY_BATCHES[turn % len(PARITY_BATCHES)]]
        first, turn = first + len(batch), turn + 1
        for ours, theirs in zip(one(batch), other(batch), strict=True):
            found.append(difference(ours, theirs, MOST, SCORE))
    good = [each for each in found if each.box <= BOX and each.score <= SCORE and each.unmatched <= WEAK]
    box, score = (float(np.median([each[place] for each in found])) for place in (0, 1))
    return Alike(len(good), len(found), box, score)


if __name__ == "__main__":
    run_command(main)
