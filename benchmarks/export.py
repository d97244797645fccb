"""Speed and accuracy of exported files: ONNX Runtime against PyTorch, int8 against float32, and ours against YOLO11n.

command  python -m benchmarks.export [--models simple ssdlite ...] [--seconds S]        (or `make bench-export`)
reads    stages/, tools/, tests/support/, params.yaml
writes   .cache/bench-export/: ONNX files, two detectors trained on the sample, which are reused; the environment of
         ultralytics (benchmarks/export_peers.py)
prints   one row per file with its agreement with PyTorch, then the comparisons of speed, with YOLO11n and of AP
time     about 25 minutes on 2 cores, 8 of them for trainings that run once

Weights are random, but the outputs of each layer are scaled as after training, so scores are spread. PyTorch with
perturbed weights, each changed by about one rounding error, shows how much of the difference is due to rounding.

Both sides run alternately in one process with the same number of threads. Each runs untimed for a moment before it is
timed, because the other's threads may still spin. Figures are medians; a ratio is the median of the pairs' ratios. A
missed target is marked in the table and is not an error.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx

from benchmarks.export_int8 import accuracy_rows, speed_rows
from benchmarks.export_peers import print_peers
from benchmarks.exported_models import THREADS, ExportedModel, ImageBatch, export_model, make_inputs
from benchmarks.speed import describe_machine
from benchmarks.table import Row, check_ratio, format_head, format_row, format_seconds, format_table
from benchmarks.timing import log_progress, time_pairs_for
from detector.core.errors import UserError, run_command
from detector.exporting.parity import DetectionDifference, compute_difference
from detector.exporting.parity_gate import MAX_UNMATCHED_SCORE
from detector.models import MODELS
from detector.runners.tiled import Runner

SPEED_BATCHES = (1, 8)
FAST_MODELS = ("simple", "effnet_lite", "ssdlite", "effnet")  # these should be faster by FACTOR, others not slower
FACTOR = 1.5
HEAD = (
    "model",
    "opset",
    "size",
    "batches",
    "images equal",
    "equal with perturbed weights",
    "box difference",
    "score difference",
)
BATCH_SIZES = (1, 2, 3, 7)
PARITY_BATCHES = (1, 2, 8)
PARITY_IMAGES = 55  # five rounds of these batches
BOX, SCORE = 0.5, 1e-3  # tolerances in params.yaml: pixels, and 0..1
MAX_DETECTIONS = 100  # per image


class Agreement(NamedTuple):
    """equal: images with equal detections on both sides. box, score: median differences of matched detections."""

    equal: int
    images: int
    box: float
    score: float


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--seconds", type=float, default=10, help="duration of each comparison; default: 10")
    arguments = parser.parse_args()
    print(f"{describe_machine()}\n{THREADS} threads on both sides", flush=True)
    rows: list[Row] = []
    print(f"\n{format_head(HEAD)}", flush=True)
    for name in arguments.models:
        log_progress(name)
        exported = export_model(name)
        print(format_row(build_row(exported)), flush=True)
        rows += [*onnx_rows(exported, arguments.seconds), *speed_rows(exported, SPEED_BATCHES, arguments.seconds)]
    print(f"\n{format_table(rows)}", flush=True)
    print_peers(arguments.models, arguments.seconds)
    print(f"\n{format_table(list(accuracy_rows()))}", flush=True)


def onnx_rows(exported: ExportedModel, budget: float) -> Iterator[Row]:
    """The whole model, NMS included, in ONNX Runtime and in PyTorch."""
    factor = FACTOR if exported.name in FAST_MODELS else 1.0
    for batch in SPEED_BATCHES:
        images = make_inputs(batch)
        times = time_pairs_for(lambda: exported.onnx(images), lambda: exported.pytorch(images), budget)  # noqa: B023
        yield Row(
            f"`{exported.name}`, batch {batch}: ONNX Runtime",
            format_seconds(times.ours),
            f"{format_seconds(times.baseline)} PyTorch",
            *check_ratio(times.ratio, factor),
        )


def build_row(exported: ExportedModel) -> list[str]:
    """One row of the table."""
    images = make_inputs(PARITY_IMAGES, first=100)
    onnx_file = compare_outputs(exported.pytorch, exported.onnx, images)
    perturbed = compare_outputs(exported.pytorch, exported.perturbed, images)
    return [
        f"`{exported.name}`",
        str(read_opset(exported.path)),
        f"{exported.path.stat().st_size / 1e6:.1f} MB",
        find_batch_sizes(exported.onnx, make_inputs(max(BATCH_SIZES))),
        f"{onnx_file.equal} of {onnx_file.images}",
        f"{perturbed.equal} of {perturbed.images}",
        f"{onnx_file.box:.0e} pixels",
        f"{onnx_file.score:.0e}",
    ]


def read_opset(path: Path) -> int:
    """The opset version of the standard operators in a file."""
    (version,) = (entry.version for entry in onnx.load(path).opset_import if entry.domain == "")
    return int(version)


def find_batch_sizes(runner: Runner, images: ImageBatch) -> str:
    """The supported batch sizes; a size that returns fewer results than images is marked."""
    sizes = []
    for batch in BATCH_SIZES:
        try:
            results = len(runner(images[:batch]))
        except UserError:  # a file with a fixed batch size
            continue
        sizes.append(str(batch) if results == batch else f"{batch} (only {results} results!)")
    return ", ".join(sizes)


def compare_outputs(ours: Runner, theirs: Runner, images: ImageBatch) -> Agreement:
    """Compare two runners on the same images, in batches of PARITY_BATCHES cyclically."""
    differences: list[DetectionDifference] = []
    first = turn = 0
    while first < len(images):
        batch = images[first : first + PARITY_BATCHES[turn % len(PARITY_BATCHES)]]
        first, turn = first + len(batch), turn + 1
        for found, expected in zip(ours(batch), theirs(batch), strict=True):
            differences.append(compute_difference(found, expected, MAX_DETECTIONS, SCORE))
    equal = [
        each
        for each in differences
        if each.box <= BOX and each.score <= SCORE and each.unmatched <= MAX_UNMATCHED_SCORE
    ]
    box, score = (float(np.median([one[place] for one in differences])) for place in (0, 1))
    return Agreement(len(equal), len(differences), box, score)


if __name__ == "__main__":
    run_command(main)
