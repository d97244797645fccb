"""Accuracy and training time on several datasets, compared with YOLO nano models trained from scratch.

command  python -m benchmarks.accuracy DATASET... [--strategy stratified] [--seeds 0 1]     (or `make bench-accuracy`)
reads    stages/, params.yaml, raw datasets
writes   .cache/bench-accuracy/: the environment of ultralytics, and a result per training, which a second run reuses
         while code, settings and dataset are the same
prints   wall time and test AP of each training; then, for ours against each of theirs, the mean over datasets and seeds
         with a 95% interval (paired bootstrap of the images), the worst dataset, and the targets; exit code 1 on a miss
time     hours on 2 cores; `--peer-settings best` leaves out the longest trainings, those of ultralytics' own settings

All trainings choose their epoch on val. `default, short` has a third of the default's epochs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks import yolo
from benchmarks.full_training import prepare_data, train_and_evaluate
from benchmarks.speed import describe_machine
from benchmarks.table import format_head, format_row, format_seconds, format_verdict
from benchmarks.timing import log_progress
from benchmarks.workspace import ROOT
from detector.core.errors import UserError, run_command
from detector.engine.coco_stream import read_ground_truth
from detector.engine.detections import Prediction, pack_rows
from detector.engine.ground_truth import GroundTruth
from detector.evaluation.bootstrap import bootstrap_weights, compute_average_precisions, percentile_interval
from detector.evaluation.matching import collect_matches
from detector.evaluation.overlaps import find_overlaps

HOME = ROOT / ".cache/bench-accuracy"
PEERS = ("yolo11n", "yolo26n")
# `best` for small datasets: with the default nominal batch size of 64 there would be an eighth of the steps.
PEER_SETTINGS: dict[str, dict[str, Any]] = {
    "best": {"epochs": 28, "batch": 8, "nbs": 8, "imgsz": 320},
    "default": {},
}
BOOTSTRAP_SAMPLES = 1000


class Target(NamedTuple):
    """What one of our trainings is to reach against each peer.

    gain: of the mean AP over datasets. time: mean fraction of the peer's wall time. worst: gain on each dataset.
    """

    gain: float
    time: float
    worst: float


TARGETS = {
    "default": Target(0.05, 0.5, 0.0),
    "default, short": Target(0.0, 0.25, -1.0),
    "simple": Target(0.0, 1.0, -1.0),
}


class Result(NamedTuple):
    """One training: wall seconds, AP on test, and AP of each bootstrap sample of its images (NaN without objects)."""

    wall: float
    ap: float
    replicates: NDArray[np.float64]


Results = dict[tuple[str, str, int], Result]  # by dataset, training and seed


def main() -> None:
    arguments = parse_arguments()
    for dataset in arguments.datasets:
        if not dataset.is_dir():
            raise UserError(f"{dataset} is not a folder; give the raw datasets to train on")
    names = [dataset.name for dataset in arguments.datasets]
    if len(set(names)) < len(names):
        raise UserError(f"the folders {', '.join(names)} must have different names, which the results are listed by")
    head = describe_machine()
    peers = [f"{peer}, {settings}" for peer in arguments.peers for settings in arguments.peer_settings]
    columns = ("dataset", "training", "seed", "wall time", "test AP")
    print(f"{head}, {yolo.PACKAGE}\n\n{format_head(columns)}", flush=True)
    results: Results = {}
    for dataset in arguments.datasets:
        log_progress(f"preparing {dataset.name}")
        data = HOME / dataset.name / "data"
        prepare_data(data, dataset, arguments.format, arguments.strategy)
        for seed in arguments.seeds:
            for training in [*TARGETS, *peers]:
                log_progress(f"{dataset.name}: {training}, seed {seed}")
                result = run_training(data, training, seed)
                results[dataset.name, training, seed] = result
                cells = (dataset.name, training, str(seed), format_seconds(result.wall), f"{result.ap:.3f}")
                print(format_row(cells), flush=True)
    rows = [compare(results, ours, peer) for ours in TARGETS for peer in peers]
    print(f"\n{format_head(('ours', 'theirs', 'AP, mean', 'worst dataset', 'time', 'targets', ''))}")
    for row in rows:
        print(format_row(row))
    if any(row[-1] == format_verdict(False) for row in rows):
        sys.exit(1)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("datasets", nargs="+", type=Path, help="folders of raw datasets")
    parser.add_argument("--format", default="auto", help="dataset format, as in params.yaml; default: auto")
    parser.add_argument("--strategy", default="stratified", help="split strategy: stratified (default), given, ...")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--peers", nargs="+", default=list(PEERS), help="ultralytics models")
    parser.add_argument(
        "--peer-settings", nargs="+", default=list(PEER_SETTINGS), choices=list(PEER_SETTINGS), help="of the peers"
    )
    return parser.parse_args()


def run_training(data: Path, training: str, seed: int) -> Result:
    """Train and evaluate, or return the stored result of the same code, settings and data."""
    folder = data.parent / f"{training.replace(', ', '-')}-{seed}"
    stored, key = folder.with_suffix(".json"), compute_key(data, training, seed)
    if stored.exists() and (kept := json.loads(stored.read_text()))["key"] == key:
        values: dict[str, Any] = kept
    else:
        wall, predictions, epochs = train(data, folder, training, seed)
        values = {"key": key, "wall": wall, "epochs": epochs, "predictions": predictions}
        stored.write_text(json.dumps(values), encoding="utf-8")
    truth = read_ground_truth(data / "data/coco/test.json")
    replicates = compute_replicates(truth, values["predictions"])
    return Result(values["wall"], float(replicates[0]), replicates[1:])


def train(data: Path, folder: Path, training: str, seed: int) -> tuple[float, list[Prediction], int]:
    """Wall time, detections on test and, of ours, epochs of one training."""
    if training not in TARGETS:
        model, settings = training.split(", ")
        interpreter = yolo.install_yolo(HOME)
        done = yolo.train_yolo(interpreter, data, folder, model, {**PEER_SETTINGS[settings], "seed": seed})
        return done.wall, done.predictions, 0
    changes: dict[str, Any] = {"seed": seed}
    if training == "simple":
        changes["model"] = "simple"
    if training == "default, short":
        whole = json.loads((folder.parent / f"default-{seed}.json").read_text())
        changes["epochs"] = max(1, round(whole["epochs"] / 3))
    result = train_and_evaluate(data, folder, changes)
    predictions: list[Prediction] = json.loads((folder / "data/predictions/test.json").read_text())
    return result.wall, predictions, result.epochs


def compute_key(data: Path, training: str, seed: int) -> str:
    """SHA-256 of what decides a result: settings and COCO files, and of ours the code and parameters."""
    settings, places = "", ["stages", "params.yaml", "data/coco"]
    if training not in TARGETS:
        settings, places = f"{yolo.PACKAGE} {PEER_SETTINGS[training.split(', ')[1]]}", ["data/coco"]
    digest = hashlib.sha256(json.dumps([training, seed, settings]).encode())
    files = sorted(path for place in places for path in [data / place, *(data / place).rglob("*")] if path.is_file())
    for path in files:
        digest.update(path.relative_to(data).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def compute_replicates(truth: GroundTruth, predictions: list[Prediction]) -> NDArray[np.float64]:
    """AP of the images as they are, then of each bootstrap sample, the same ones for every training."""
    matches = collect_matches(find_overlaps(truth, pack_rows(predictions)))
    count = len(truth.images.ids)
    samples = bootstrap_weights(np.arange(count), BOOTSTRAP_SAMPLES, seed=0)
    weights = np.concatenate([np.ones((1, count), np.int32), samples])
    precision = compute_average_precisions(matches, weights).reshape(len(weights), -1)
    defined = ~np.isnan(precision)
    replicates: NDArray[np.float64] = np.where(
        defined.any(1), np.nansum(precision, 1) / np.maximum(defined.sum(1), 1), np.nan
    )
    return replicates


def compare(results: Results, ours: str, theirs: str) -> tuple[str, ...]:
    """One row: gain in AP with its interval, the worst dataset, and the time as a fraction of theirs."""
    pairs = {
        (dataset, seed): (result, results[dataset, theirs, seed])
        for (dataset, training, seed), result in results.items()
        if training == ours
    }
    bounds = percentile_interval(np.mean([a.replicates - b.replicates for a, b in pairs.values()], axis=0))
    datasets = {dataset: [pair for (name, _), pair in pairs.items() if name == dataset] for dataset, _ in pairs}
    gains = {dataset: float(np.mean([a.ap - b.ap for a, b in runs])) for dataset, runs in datasets.items()}
    gain, worst = float(np.mean(list(gains.values()))), min(gains, key=lambda dataset: gains[dataset])
    time = float(np.mean([a.wall / b.wall for a, b in pairs.values()]))
    target = TARGETS[ours]
    interval = "" if bounds is None else f" ({bounds[0]:+.3f} to {bounds[1]:+.3f})"
    passed = gain >= target.gain and time <= target.time and gains[worst] >= target.worst
    wanted = f"AP ≥ {target.gain:+g}, time ≤ {target.time:g}" + (", worst ≥ 0" if target.worst == 0 else "")
    return (
        ours,
        theirs,
        f"{gain:+.3f}{interval}",
        f"{gains[worst]:+.3f} {worst}",
        f"{time:.2f} ×",
        wanted,
        format_verdict(passed),
    )


if __name__ == "__main__":
    run_command(main)
