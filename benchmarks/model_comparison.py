"""Train each model with its own recipe on one dataset and print the table in docs/models.md.

command  python -m benchmarks.model_comparison DATASET [--strategy given] [--models simple ssdlite ...]
         [--set epochs=2 weights=none ...]
reads    stages/, params.yaml, a raw dataset
writes   .cache/bench-models/
prints   one row per model as it finishes: parameters, images/s, wall and CPU time, AP and AP50 on test
time     minutes for the small models, hours for the large ones, on 2 cores
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from benchmarks.full_training import TrainingResult, prepare_data, train_and_evaluate
from benchmarks.speed import describe_machine
from benchmarks.table import format_head, format_row
from benchmarks.timing import log_progress
from benchmarks.workspace import ROOT
from detector.core.errors import UserError, run_command
from detector.core.yaml_files import parse_yaml
from detector.models import MODELS

HOME = ROOT / ".cache/bench-models"
HEAD = ("model", "parameters", "images/s", "epochs", "wall time", "CPU time", "test AP", "AP50")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("dataset", type=Path, help="folder of a raw dataset")
    parser.add_argument("--format", default="auto", help="dataset format, as in params.yaml; default: auto")
    parser.add_argument("--strategy", default="given", help="split strategy: given (default), stratified, ...")
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="changes to `train:`, for all models")
    arguments = parser.parse_args()
    if not arguments.dataset.is_dir():
        raise UserError(f"{arguments.dataset} is not a folder; give the raw dataset to train on")
    changes = parse_changes(arguments.set)
    prepare_data(HOME / "data", arguments.dataset, arguments.format, arguments.strategy)
    print(f"{describe_machine()}\nchanged: {changes or 'nothing'}\n\n{format_head(HEAD)}", flush=True)
    for name in arguments.models:
        log_progress(name)
        result = train_and_evaluate(HOME / "data", HOME / name, {"model": name} | changes)
        print(format_row(build_row(name, result)), flush=True)


def parse_changes(pairs: list[str]) -> dict[str, Any]:
    """Parse KEY=VALUE pairs; values are YAML."""
    if any("=" not in pair for pair in pairs):
        raise UserError(f"--set takes KEY=VALUE, not {' '.join(pairs)}")
    return {key: parse_yaml(value) for key, _, value in (pair.partition("=") for pair in pairs)}


def build_row(name: str, result: TrainingResult) -> list[str]:
    """One row of the table."""
    return [
        f"`{name}`",
        f"{result.parameters / 1e6:.1f} M",
        f"{result.rate:.3g}",
        str(result.epochs),
        format_minutes(result.wall),
        format_minutes(result.cpu),
        f"{result.ap:.3f}",
        f"{result.ap50:.3f}",
    ]


def format_minutes(seconds: float) -> str:
    """A duration."""
    return f"{int(seconds // 60)} min {int(seconds % 60)} s"


if __name__ == "__main__":
    run_command(main)
