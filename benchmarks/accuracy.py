"""Accuracy for the time it takes, beside YOLO11n from scratch: on one dataset, on this machine, one after another.

command  python -m benchmarks.accuracy DATASET [--format voc] [--strategy given]     (or `make bench-accuracy`)
reads    stages/, params.yaml, a raw dataset
writes   .cache/bench-accuracy/: the peer's own environment, which stays, and the runs
prints   wall time of each training, as a share of the peer's, and AP on test; the epoch is chosen on val
time     four trainings: about 20 minutes for 200 photographs on 2 cores

The peer, ultralytics (AGPL), is installed into an environment of its own and run as a program; nothing of it
is imported here or shipped. It sees the same images, lists and boxes, and its detections are judged by the same
code. Only `train.epochs` differs between the two runs of the default model.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.speed import machine
from benchmarks.table import Row, markdown, seconds
from benchmarks.timing import say
from benchmarks.trainings import Training, prepare, train
from benchmarks.workspace import ROOT, call, environment
from benchmarks.yolo_files import predictions_of, write_yolo
from detector.core.errors import UserError, run_command
from detector.engine.coco_metrics import coco_numbers, evaluate_boxes

HOME = ROOT / ".cache/bench-accuracy"
PEER = "ultralytics==8.4.190"
# Its best setting on little data: a nominal batch of 64, its default, would mean an eighth of the steps.
PEER_SETTINGS = {"epochs": 28, "batch": 8, "nbs": 8, "imgsz": 320, "device": "cpu", "seed": 0, "plots": False}
TRAIN_PEER = """
import json, os, sys
from ultralytics import YOLO
settings = json.loads(sys.argv[1])
model = YOLO("yolo11n.yaml")
model.train(data="data.yaml", project=os.path.abspath("runs"), name="train", verbose=False, **settings)
"""
JUDGE_PEER = """
import os
from ultralytics import YOLO
model = YOLO("runs/train/weights/best.pt")
model.val(data="data.yaml", split="test", imgsz=320, device="cpu", save_json=True, project=os.path.abspath("runs"),
          name="test", plots=False, verbose=False)
"""


class Target(NamedTuple):
    """A training of ours: its name, what it changes in params.yaml, and what it should reach on BCCD."""

    name: str
    changes: dict[str, Any]
    share: float
    ap: float


OURS = (
    Target("the default model, short", {"epochs": 12}, 1 / 3, 0.50),
    Target("the default model", {}, 1, 0.60),
    Target("`simple`, from scratch", {"model": "simple"}, 1, 0.58),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("dataset", type=Path, help="folder of a raw dataset")
    parser.add_argument("--format", default="voc", help="of the dataset, as in params.yaml; default: voc")
    parser.add_argument("--strategy", default="given", help="of the split: given (default), stratified, ...")
    arguments = parser.parse_args()
    if not arguments.dataset.is_dir():
        raise UserError(f"{arguments.dataset} is not a folder; give the raw dataset to train on")
    head = machine()
    peer_python = install_peer()
    say("preparing the data")
    data = HOME / "data"
    prepare(data, arguments.dataset, arguments.format, arguments.strategy)
    say(f"YOLO11n, {PEER_SETTINGS['epochs']} epochs")
    peer = train_peer(peer_python, data)
    rows = [Row("YOLO11n from scratch", seconds(peer.wall), "", accuracy(peer))]
    for target in OURS:
        say(target.name)
        rows.append(row_of(target, train(data, HOME / "ours", target.changes), peer))
    print(f"{head}, {PEER}\n\n{markdown(rows)}")


def install_peer(folder: Path = HOME / "environment", *packages: str) -> Path:
    """Python of the peer's environment, made at the first run, with the torch that runs here and `packages`."""
    interpreter = folder / "bin/python"
    if not interpreter.exists():
        say(f"installing {PEER} into an environment of its own")
        pair = [f"{name}=={version(name).partition('+')[0]}" for name in ("torch", "torchvision")]
        call(ROOT, sys.executable, "-m", "venv", str(folder))
        call(ROOT, sys.executable, "-m", "uv", "pip", "install", "--python", str(interpreter), PEER, *pair, *packages)
    return interpreter


class Peer(NamedTuple):
    """Seconds of the whole training process, AP and AP50 on test."""

    wall: float
    ap: float
    ap50: float


def train_peer(interpreter: Path, data: Path) -> Peer:
    """Train the peer on the same lists, then judge its detections on test as ours are judged."""
    folder = HOME / "peer"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    truth = {split: json.loads((data / f"data/coco/{split}.json").read_text()) for split in ("train", "val", "test")}
    write_yolo(truth, data, folder)
    began = time.perf_counter()
    run_peer(interpreter, folder, TRAIN_PEER, json.dumps(PEER_SETTINGS))
    wall = time.perf_counter() - began
    run_peer(interpreter, folder, JUDGE_PEER)
    found = json.loads((folder / "runs/test/predictions.json").read_text())
    numbers = coco_numbers(evaluate_boxes(truth["test"], predictions_of(found)))
    return Peer(wall, numbers["AP"] or 0.0, numbers["AP50"] or 0.0)


def run_peer(interpreter: Path, folder: Path, *code: str) -> str:
    """What the peer's Python printed; its notes are kept in `folder`. Raises UserError when it fails."""
    private = environment(folder) | {"YOLO_CONFIG_DIR": str(folder), "YOLO_OFFLINE": "true"}
    private.pop("PYTHONPATH", None)
    done = subprocess.run([interpreter, "-c", *code], cwd=folder, env=private, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"the peer failed: {done.stderr.strip()[-2000:]}")
    return done.stdout


def row_of(target: Target, ours: Training, peer: Peer) -> Row:
    """Wall time, its share of the peer's, and AP."""
    share = ours.wall / peer.wall
    return Row(
        target.name,
        seconds(ours.wall),
        f"{seconds(peer.wall)} YOLO11n",
        f"{share:.2f} of the time, {accuracy(ours)}",
        f"≤ {target.share:.2f}, AP ≥ {target.ap:.2f} on BCCD",
        share <= target.share and ours.ap >= target.ap,
    )


def accuracy(result: Training | Peer) -> str:
    """AP and AP50."""
    return f"AP {result.ap:.3f}, AP50 {result.ap50:.3f}"


if __name__ == "__main__":
    run_command(main)
