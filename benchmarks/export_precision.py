"""Files in 8 bits beside those in float32: how fast, and what of the AP is left."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.deployed import THREADS, Deployed, pictures
from benchmarks.export_models import HOME
from benchmarks.table import Row, at_least, seconds
from benchmarks.timing import compare_for, say
from benchmarks.trainings import prepare, train
from benchmarks.workspace import ROOT, python
from detector.core.images import load_letterboxed
from detector.engine.checkpoint import load_checkpoint
from detector.engine.coco_metrics import coco_numbers, evaluate_boxes
from detector.engine.dataset import present_objects
from detector.engine.detections import coco_results
from detector.exporting.onnx_file import make_onnx, save_onnx
from detector.exporting.precision import in_8_bits
from detector.models import load_model
from detector.models.postprocess import Postprocess
from detector.runners.onnx_runner import open_onnx
from detector.runners.tiled import find_whole
from detector.runners.torch_runner import facts_of

FACTOR = 1.5  # that 8 bits should be faster by
MOST_LOST = 0.01  # of AP
TRAINED = {"simple": {"epochs": 12}, "effnet_lite": {"epochs": 10}}
TRAINED_SIZE = 224
CALIBRATION = 32  # images


def small_rows(deployed: Deployed, batches: tuple[int, ...], budget: float) -> Iterator[Row]:
    """One model's file in 8 bits beside the same in float32."""
    small = deployed.path.with_suffix(".int8.onnx")
    facts, _ = open_onnx(deployed.path, THREADS)
    images = iter(pictures(CALIBRATION // 2, first=200))
    save_onnx(in_8_bits(onnx.load(deployed.path), images), facts._replace(precision="int8"), small)
    _, runner = open_onnx(small, THREADS)
    for batch in batches:
        shown = pictures(batch)
        times = compare_for(lambda: runner(shown), lambda: deployed.file(shown), budget)  # noqa: B023
        yield Row(
            f"`{deployed.name}`, batch {batch}: 8 bits",
            seconds(times.here),
            f"{seconds(times.beside)} float32",
            *at_least(times.ratio, FACTOR),
        )


def accuracy_rows() -> Iterator[Row]:
    """AP on the sample's test images of detectors that were trained on it."""
    for name in TRAINED:
        say(f"AP of {name} in 8 bits")
        folder = trained(name)
        whole, small = export_both(folder)
        before, after = average_precision(folder, whole), average_precision(folder, small)
        yield Row(
            f"`{name}` trained on the sample: AP in 8 bits",
            f"{after:.4f}, {small.stat().st_size / 1e6:.1f} MB",
            f"{before:.4f}, {whole.stat().st_size / 1e6:.1f} MB float32",
            f"{before - after:+.4f} lost",
            f"≤ {MOST_LOST}",
            before - after <= MOST_LOST,
        )


def trained(name: str) -> Path:
    """A copy of the repository with a detector trained on the sample; trained at the first call only."""
    data, folder = HOME / "data", HOME / name
    if not (folder / "models/detector.json").exists():
        if not (data / "data/coco/train.json").exists():
            sample = HOME / "sample"
            python(ROOT, "tools/sample_data.py", "--out", str(sample), "--images", "400")
            prepare(data, sample, "jsonl", "stratified")
        train(data, folder, {"model": name, "size": TRAINED_SIZE} | TRAINED[name])
    return folder


def export_both(folder: Path) -> tuple[Path, Path]:
    """The detector of `folder` as a file in float32 and one in 8 bits, calibrated on training images."""
    weights, card = load_checkpoint(folder / "models/detector.safetensors")
    postprocess = Postprocess()
    model = load_model(card.model, weights, len(card.classes), len(card.states), postprocess)
    facts = facts_of(card, postprocess)._replace(threshold=dict.fromkeys(card.classes, 0.5))
    whole, small = folder / "models/float32.onnx", folder / "models/int8.onnx"
    save_onnx(make_onnx(model, facts), facts, whole)
    images = coco(folder, "train")["images"]
    chosen = images[:: max(1, len(images) // CALIBRATION)][:CALIBRATION]
    shown = (pixels(folder / image["file_name"], facts.size, facts.fill) for image in chosen)
    save_onnx(in_8_bits(onnx.load(whole), shown), facts._replace(precision="int8"), small)
    return whole, small


def pixels(path: Path, size: tuple[int, int], fill: tuple[int, int, int]) -> NDArray[np.uint8]:
    """One image as the model takes it: uint8 [3, H, W]."""
    return load_letterboxed(path, size, fill).pixels.transpose(2, 0, 1).copy()


def average_precision(folder: Path, file: Path) -> float:
    """AP of an ONNX file on the test images of `folder`."""
    truth = coco(folder, "test")
    facts, runner = open_onnx(file, THREADS)
    paths = [folder / image["file_name"] for image in truth["images"]]
    predictions = [
        one
        for image, found in zip(truth["images"], find_whole(paths, runner, facts, 8), strict=True)
        for one in coco_results(found, image["id"], image["width"], image["height"])
    ]
    return coco_numbers(evaluate_boxes(present_objects(truth), predictions))["AP"] or 0.0


def coco(folder: Path, split: str) -> dict[str, list[dict[str, Any]]]:
    """What coco-convert wrote."""
    content: dict[str, list[dict[str, str]]] = json.loads((folder / f"data/coco/{split}.json").read_text())
    return content
