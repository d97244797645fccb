"""Measure what an exported file gains: beside PyTorch, in 8 bits, beside the peer's file, and over files of images.

command  python -m benchmarks.export [--models simple ssdlite ...] [--seconds S]        (or `make bench-export`)
reads    stages/, tools/, tests/trained_like.py, params.yaml
writes   .cache/bench-export/: ONNX files, two detectors trained on the sample, the peer's own environment; they stay
prints   tables: every file and how alike it answers, ONNX Runtime beside PyTorch, 8 bits beside float, the peer,
         images/s of `tools/predict.py`, what the service costs and bears
time     about 25 minutes on 2 cores, 8 of them for trainings that are done once

Two things that are compared run in turn in one process, with the same number of threads, each for a moment untimed
before it is timed, since the threads of the other may still spin. Figures are medians, and a ratio is the median of the
pairs' ratios. A missed target is a word in the table, not an error.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from benchmarks.deployed import THREADS, Deployed, deploy, pictures
from benchmarks.export_models import HEAD, HOME, cells, head_lines
from benchmarks.export_peer import peer_rows
from benchmarks.export_precision import accuracy_rows, small_rows
from benchmarks.export_use import use_rows
from benchmarks.models import line
from benchmarks.speed import machine
from benchmarks.table import Row, at_least, markdown, seconds
from benchmarks.timing import compare_for, say
from detector.core.errors import run_command
from detector.models import MODELS

BATCHES = (1, 8)
FASTER = ("simple", "effnet_lite", "ssdlite", "effnet")  # by this factor at least; the others not slower
FACTOR = 1.5


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--seconds", type=float, default=10, help="that each comparison may take; default: 10")
    arguments = parser.parse_args()
    print(f"{machine()}\n{THREADS} threads on either side", flush=True)
    rows: list[Row] = []
    print(f"\n{head_lines(HEAD)}", flush=True)
    for name in arguments.models:
        say(name)
        deployed = deploy(name, HOME)
        print(line(cells(deployed)), flush=True)
        rows += [*eager_rows(deployed, arguments.seconds), *small_rows(deployed, BATCHES, arguments.seconds)]
    print(f"\n{markdown(rows)}", flush=True)
    for measured in (accuracy_rows, peer_rows, use_rows):  # each on the files that are there by now
        print(f"\n{markdown(list(measured()))}", flush=True)


def eager_rows(deployed: Deployed, budget: float) -> Iterator[Row]:
    """The whole model, NMS included, by ONNX Runtime and by PyTorch."""
    factor = FACTOR if deployed.name in FASTER else 1.0
    for batch in BATCHES:
        images = pictures(batch)
        times = compare_for(lambda: deployed.file(images), lambda: deployed.eager(images), budget)  # noqa: B023
        yield Row(
            f"`{deployed.name}`, batch {batch}: ONNX Runtime",
            seconds(times.here),
            f"{seconds(times.beside)} PyTorch",
            *at_least(times.ratio, factor),
        )


if __name__ == "__main__":
    run_command(main)
