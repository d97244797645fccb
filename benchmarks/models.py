"""Train each model by its own recipe on one dataset and print the table of docs/models.md.

command  python -m benchmarks.models DATASET [--format voc] [--strategy given] [--models simple ssdlite ...]
         [--set epochs=2 weights=none ...]
reads    stages/, params.yaml, a raw dataset
writes   .cache/bench-models/
prints   a row as soon as a model is done: parameters, images/s, CPU minutes, AP and AP50 on test
time     minutes for the small models, hours for the large ones, on 2 cores
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import yaml

from benchmarks.speed import machine
from benchmarks.timing import say
from benchmarks.trainings import Training, prepare, train
from benchmarks.workspace import ROOT
from detector.core.errors import UserError, run_command
from detector.models import MODELS

HOME = ROOT / ".cache/bench-models"
HEAD = ("model", "parameters", "images/s", "epochs", "wall time", "CPU time", "test AP", "AP50")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("dataset", type=Path, help="folder of a raw dataset")
    parser.add_argument("--format", default="voc", help="of the dataset, as in params.yaml; default: voc")
    parser.add_argument("--strategy", default="given", help="of the split: given (default), stratified, ...")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="of `train:`, for all of them")
    arguments = parser.parse_args()
    if not arguments.dataset.is_dir():
        raise UserError(f"{arguments.dataset} is not a folder; give the raw dataset to train on")
    changes = changes_of(arguments.set)
    prepare(HOME / "data", arguments.dataset, arguments.format, arguments.strategy)
    print(f"{machine()}\nchanged: {changes or 'nothing'}\n\n{line(HEAD)}\n{line(['---'] * len(HEAD))}", flush=True)
    for name in arguments.models:
        say(name)
        print(line(cells(name, train(HOME / "data", HOME / name, {"model": name} | changes))), flush=True)


def changes_of(pairs: list[str]) -> dict[str, Any]:
    """`KEY=VALUE` as params.yaml would read it."""
    if any("=" not in pair for pair in pairs):
        raise UserError(f"--set takes KEY=VALUE, not {' '.join(pairs)}")
    return {key: yaml.safe_load(value) for key, _, value in (pair.partition("=") for pair in pairs)}


def cells(name: str, training: Training) -> list[str]:
    """One row of the table."""
    return [
        f"`{name}`",
        f"{training.parameters / 1e6:.1f} M",
        f"{training.rate:.3g}",
        str(training.epochs),
        minutes(training.wall),
        minutes(training.cpu),
        f"{training.ap:.3f}",
        f"{training.ap50:.3f}",
    ]


def minutes(seconds: float) -> str:
    """A duration."""
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"


def line(columns: list[str] | tuple[str, ...]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(columns)} |"


if __name__ == "__main__":
    run_command(main)
