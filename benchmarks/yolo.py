"""Training and exporting YOLO models of ultralytics in an environment of their own.

ultralytics (AGPL) runs as a program; it is neither imported nor shipped. Its trainings get the same images, splits and
boxes, and the same code evaluates its detections.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from benchmarks.timing import log_progress
from benchmarks.workspace import ROOT, build_environment, run_command_in
from detector.core.errors import UserError
from detector.engine.detections import Prediction

PACKAGE = "ultralytics==8.4.190"
SIMPLIFIER = "onnxslim==0.1.98"  # ultralytics' export needs it
SHARED = ("torch", "torchvision", "onnx", "onnxruntime")  # in the versions of this environment
TRAIN_CODE = """
import json, os, sys
from ultralytics import YOLO
name, settings = json.loads(sys.argv[1])
model = YOLO(name + ".yaml")
model.train(data="data.yaml", project=os.path.abspath("runs"), name="train", verbose=False, device="cpu", plots=False,
            **settings)
"""
PREDICT_CODE = """
import json, os, sys
from ultralytics import YOLO
size = json.loads(sys.argv[1])
model = YOLO("runs/train/weights/best.pt")
model.val(data="data.yaml", split="test", imgsz=size, device="cpu", save_json=True, project=os.path.abspath("runs"),
          name="test", plots=False, verbose=False)
"""
# The layers are rescaled as in tests/support/synthetic_model.py, and the last ones get the biases of dense_head.py:
# scores and sizes of boxes are spread as in our models. With plain random weights, NMS would get no box.
EXPORT_CODE = """
import json, math, os, sys
import numpy, torch
from ultralytics import YOLO
from ultralytics.nn.tasks import DetectionModel
name, classes = json.loads(sys.argv[1])
images = torch.from_numpy(numpy.load("images.npy"))
torch.manual_seed(0)
yolo = YOLO(name + ".yaml")
network = DetectionModel(name + ".yaml", nc=classes, verbose=False)
network.args, network.task = yolo.model.args, yolo.model.task
yolo.model = network

def rescale(layer, _, output):
    hooks.pop(layer).remove()
    std = output.std().clamp(min=1e-3)
    layer.weight /= std
    return output / std

for module in network.modules():
    if isinstance(module, torch.nn.BatchNorm2d):
        module.reset_running_stats()
        module.momentum = None
layers = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
hooks = {layer: layer.register_forward_hook(rescale) for layer in layers}
head = network.model[-1]
with torch.no_grad():
    network.train()(images.float() / 255)
    for hook in hooks.values():
        hook.remove()
    for boxes, scores in zip(head.cv2, head.cv3):
        boxes[-1].bias.copy_(torch.linspace(0, -6, head.reg_max).repeat(4))
        scores[-1].bias.fill_(-math.log(99))
os.replace(yolo.export(format="onnx", imgsz=list(images.shape[2:]), nms=True, device="cpu"), "model.onnx")
"""
DEFAULT_SIZE = 640  # pixels, of ultralytics' own settings


class YoloResult(NamedTuple):
    """Wall time of the whole training process in seconds, and the detections on test in image pixels."""

    wall: float
    predictions: list[Prediction]


def install_yolo(home: Path) -> Path:
    """The Python of the environment of ultralytics, with the torch of this environment.

    The first run creates it; a run that needs other versions than the last one installs them.
    """
    folder = home / "environment"
    interpreter, record = folder / "bin/python", folder / "requirements.txt"
    requirements = [PACKAGE, SIMPLIFIER, *(f"{name}=={version(name).partition('+')[0]}" for name in SHARED)]
    content = "\n".join(requirements) + "\n"
    if not record.exists() or record.read_text(encoding="utf-8") != content:
        log_progress(f"installing {PACKAGE} into a separate environment")
        if not interpreter.exists():
            run_command_in(ROOT, sys.executable, "-m", "venv", str(folder))
        uv = (sys.executable, "-m", "uv")
        run_command_in(ROOT, *uv, "pip", "install", "--python", str(interpreter), *requirements)
        record.write_text(content, encoding="utf-8")
    return interpreter


def train_yolo(interpreter: Path, data: Path, folder: Path, model: str, settings: dict[str, Any]) -> YoloResult:
    """Train `model` (such as yolo11n) from scratch in `folder` on the splits in `data`, and detect on test."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    truth = {split: json.loads((data / f"data/coco/{split}.json").read_text()) for split in ("train", "val", "test")}
    write_yolo_dataset(truth, data, folder)
    start = time.perf_counter()
    run_yolo(interpreter, folder, TRAIN_CODE, json.dumps([model, settings]))
    wall = time.perf_counter() - start
    run_yolo(interpreter, folder, PREDICT_CODE, json.dumps(settings.get("imgsz", DEFAULT_SIZE)))
    detections = json.loads((folder / "runs/test/predictions.json").read_text())
    return YoloResult(wall, to_coco_results(detections))


def export_yolo(interpreter: Path, folder: Path, model: str, classes: int, images: NDArray[np.uint8]) -> Path:
    """Export `model` with NMS inside to `folder`, for images of the size of these [B, 3, H, W].

    Its weights are random, scaled so that each layer's outputs on these images have a standard deviation of about 1.
    """
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "images.npy", images)
    run_yolo(interpreter, folder, EXPORT_CODE, json.dumps([model, classes]))
    return folder / "model.onnx"


def run_yolo(interpreter: Path, folder: Path, *code: str) -> None:
    """Run code in the environment of ultralytics, whose settings go to `folder`. Raises UserError when it fails."""
    private = {"YOLO_CONFIG_DIR": str(folder), "YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}
    variables = build_environment(folder) | private
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
