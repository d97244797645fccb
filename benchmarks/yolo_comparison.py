"""Accuracy and training time compared with YOLO11n trained from scratch, on the same dataset and machine.

command  python -m benchmarks.yolo_comparison DATASET [--strategy given]     (or `make bench-accuracy`)
reads    stages/, params.yaml, a raw dataset
writes   .cache/bench-accuracy/: the environment of ultralytics, which is reused, and the runs
prints   wall time per training, as a fraction of YOLO11n's, and AP on test; the epoch is chosen on val
time     four trainings: about 20 minutes for 200 photographs on 2 cores

ultralytics (AGPL) is installed into a separate environment and runs as a program; it is neither imported nor shipped.
It gets the same images, splits and boxes, and the same code evaluates its detections. The two runs of the default
model differ only in `train.epochs`.
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

from benchmarks.full_training import TrainingResult, prepare_data, train_and_evaluate
from benchmarks.speed import describe_machine
from benchmarks.table import Row, format_seconds, format_table
from benchmarks.timing import log_progress
from benchmarks.workspace import ROOT, build_environment, run_command_in
from detector.core.errors import UserError, run_command
from detector.engine.coco_metrics import evaluate_boxes, read_coco_metrics
from detector.engine.detections import Prediction

HOME = ROOT / ".cache/bench-accuracy"
YOLO_PACKAGE = "ultralytics==8.4.190"
# The best settings for small datasets: the default nominal batch size of 64 would make an eighth of the steps.
YOLO_SETTINGS = {"epochs": 28, "batch": 8, "nbs": 8, "imgsz": 320, "device": "cpu", "seed": 0, "plots": False}
YOLO_TRAIN_CODE = """
import json, os, sys
from ultralytics import YOLO
settings = json.loads(sys.argv[1])
model = YOLO("yolo11n.yaml")
model.train(data="data.yaml", project=os.path.abspath("runs"), name="train", verbose=False, **settings)
"""
YOLO_PREDICT_CODE = """
import os
from ultralytics import YOLO
model = YOLO("runs/train/weights/best.pt")
model.val(data="data.yaml", split="test", imgsz=320, device="cpu", save_json=True, project=os.path.abspath("runs"),
          name="test", plots=False, verbose=False)
"""


class Target(NamedTuple):
    """One of our trainings: its changes to `train:`, and the time (fraction of YOLO11n's) and AP to reach on BCCD."""

    name: str
    changes: dict[str, Any]
    time: float
    ap: float


OURS = (
    Target("the default model, short", {"epochs": 12}, 1 / 3, 0.50),
    Target("the default model", {}, 1, 0.60),
    Target("`simple`, from scratch", {"model": "simple"}, 1, 0.58),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("dataset", type=Path, help="folder of a raw dataset")
    parser.add_argument("--format", default="auto", help="dataset format, as in params.yaml; default: auto")
    parser.add_argument("--strategy", default="given", help="split strategy: given (default), stratified, ...")
    arguments = parser.parse_args()
    if not arguments.dataset.is_dir():
        raise UserError(f"{arguments.dataset} is not a folder; give the raw dataset to train on")
    head = describe_machine()
    interpreter = install_yolo()
    log_progress("preparing the data")
    data = HOME / "data"
    prepare_data(data, arguments.dataset, arguments.format, arguments.strategy)
    log_progress(f"YOLO11n, {YOLO_SETTINGS['epochs']} epochs")
    yolo = train_yolo(interpreter, data)
    rows = [Row("YOLO11n from scratch", format_seconds(yolo.wall), "", format_accuracy(yolo))]
    for target in OURS:
        log_progress(target.name)
        rows.append(comparison_row(target, train_and_evaluate(data, HOME / "ours", target.changes), yolo))
    print(f"{head}, {YOLO_PACKAGE}\n\n{format_table(rows)}")


def install_yolo() -> Path:
    """The Python of the environment of ultralytics, created in the first run, with the torch of this environment."""
    folder = HOME / "environment"
    interpreter = folder / "bin/python"
    if not interpreter.exists():
        log_progress(f"installing {YOLO_PACKAGE} into a separate environment")
        torch_pins = [f"{name}=={version(name).partition('+')[0]}" for name in ("torch", "torchvision")]
        run_command_in(ROOT, sys.executable, "-m", "venv", str(folder))
        uv = (sys.executable, "-m", "uv")
        run_command_in(ROOT, *uv, "pip", "install", "--python", str(interpreter), YOLO_PACKAGE, *torch_pins)
    return interpreter


class YoloResult(NamedTuple):
    """Wall time of the whole training process in seconds, AP and AP50 on test."""

    wall: float
    ap: float
    ap50: float


def train_yolo(interpreter: Path, data: Path) -> YoloResult:
    """Train YOLO11n on the same splits and evaluate its detections on test like ours."""
    folder = HOME / "yolo"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    truth = {split: json.loads((data / f"data/coco/{split}.json").read_text()) for split in ("train", "val", "test")}
    write_yolo_dataset(truth, data, folder)
    start = time.perf_counter()
    run_yolo(interpreter, folder, YOLO_TRAIN_CODE, json.dumps(YOLO_SETTINGS))
    wall = time.perf_counter() - start
    run_yolo(interpreter, folder, YOLO_PREDICT_CODE)
    detections = json.loads((folder / "runs/test/predictions.json").read_text())
    numbers = read_coco_metrics(evaluate_boxes(truth["test"], to_coco_results(detections)))
    return YoloResult(wall, numbers["AP"] or 0.0, numbers["AP50"] or 0.0)


def run_yolo(interpreter: Path, folder: Path, *code: str) -> None:
    """Run code in the environment of ultralytics, whose settings go to `folder`. Raises UserError when it fails."""
    variables = build_environment(folder) | {"YOLO_CONFIG_DIR": str(folder), "YOLO_OFFLINE": "true"}
    variables.pop("PYTHONPATH", None)
    done = subprocess.run([interpreter, "-c", *code], cwd=folder, env=variables, capture_output=True, text=True)
    if done.returncode:
        raise UserError(f"ultralytics failed: {done.stderr.strip()[-2000:]}")


def write_yolo_dataset(truth: dict[str, dict[str, Any]], root: Path, folder: Path) -> None:
    """Write data.yaml, links to the images named by their id, and a label file per image.

    truth: the COCO dictionary per split; its file names are relative to `root`.
    """
    for split, coco in truth.items():
        for kind in ("images", "labels"):
            (folder / kind / split).mkdir(parents=True)
        for image in coco["images"]:
            width, height = image["width"], image["height"]
            lines = []
            for annotation in coco["annotations"]:
                if annotation["image_id"] == image["id"]:
                    left, top, w, h = annotation["bbox"]
                    numbers = ((left + w / 2) / width, (top + h / 2) / height, w / width, h / height)
                    lines.append(" ".join([str(annotation["category_id"] - 1), *(f"{value:.6f}" for value in numbers)]))
            source = (root / image["file_name"]).resolve()
            (folder / "images" / split / f"{image['id']}{source.suffix}").symlink_to(source)
            (folder / "labels" / split / f"{image['id']}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    names = dict(enumerate(category["name"] for category in truth["train"]["categories"]))
    content = {"path": str(folder), **{split: f"images/{split}" for split in truth}, "names": names}
    (folder / "data.yaml").write_text(json.dumps(content), encoding="utf-8")  # JSON is YAML


def to_coco_results(detections: list[dict[str, Any]]) -> list[Prediction]:
    """The detections that ultralytics wrote, with integer image ids and the missing states."""
    keys = ("category_id", "bbox", "score")
    return [
        {"image_id": int(one["image_id"]), **{key: one[key] for key in keys}, "state": 0, "state_score": 0.0}  # type: ignore[typeddict-item]
        for one in detections
    ]


def comparison_row(target: Target, ours: TrainingResult, yolo: YoloResult) -> Row:
    """Wall time, its fraction of YOLO11n's, and AP."""
    fraction = ours.wall / yolo.wall
    return Row(
        target.name,
        format_seconds(ours.wall),
        f"{format_seconds(yolo.wall)} YOLO11n",
        f"{fraction:.2f} of the time, {format_accuracy(ours)}",
        f"≤ {target.time:.2f}, AP ≥ {target.ap:.2f} on BCCD",
        fraction <= target.time and ours.ap >= target.ap,
    )


def format_accuracy(result: TrainingResult | YoloResult) -> str:
    """AP and AP50."""
    return f"AP {result.ap:.3f}, AP50 {result.ap50:.3f}"


if __name__ == "__main__":
    run_command(main)
