"""Speed and AP of int8 files against float32."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks.exported_models import HOME, THREADS, ExportedModel, make_inputs
from benchmarks.full_training import prepare_data, train_and_evaluate
from benchmarks.table import Row, check_ratio, format_seconds
from benchmarks.timing import log_progress, time_pairs_for
from benchmarks.workspace import ROOT, run_python
from detector.core.images import load_letterboxed
from detector.engine.checkpoint import load_checkpoint
from detector.engine.coco_metrics import evaluate_boxes, read_coco_metrics
from detector.engine.coco_stream import read_ground_truth
from detector.engine.detections import concatenate, round_detections
from detector.exporting.onnx_file import convert_to_onnx, save_onnx
from detector.exporting.precision import quantize_int8
from detector.models import load_model
from detector.models.postprocess import Postprocess
from detector.runners.onnx_runner import open_onnx
from detector.runners.tiled import detect_images
from detector.runners.torch_runner import build_metadata

FACTOR = 1.5  # by which int8 should be faster
MAX_AP_LOSS = 0.01
TRAINED = {"simple": {"epochs": 12}, "effnet_lite": {"epochs": 10}}
TRAINED_SIZE = 224
CALIBRATION = 32  # images


def speed_rows(exported: ExportedModel, batches: tuple[int, ...], budget: float) -> Iterator[Row]:
    """The int8 file of a model against its float32 file."""
    _, runner = open_onnx(write_int8(exported.path), THREADS)
    for batch in batches:
        batch_images = make_inputs(batch)
        times = time_pairs_for(lambda: runner(batch_images), lambda: exported.onnx(batch_images), budget)  # noqa: B023
        yield Row(
            f"`{exported.name}`, batch {batch}: int8",
            format_seconds(times.ours),
            f"{format_seconds(times.baseline)} float32",
            *check_ratio(times.ratio, FACTOR),
        )


def write_int8(path: Path) -> Path:
    """Write the int8 file of a float32 file beside it."""
    int8 = path.with_suffix(".int8.onnx")
    metadata, _ = open_onnx(path, THREADS)
    images = iter(make_inputs(CALIBRATION // 2, first=200))
    save_onnx(quantize_int8(onnx.load(path), images), metadata.model_copy(update={"precision": "int8"}), int8)
    return int8


def accuracy_rows() -> Iterator[Row]:
    """AP on test of detectors that are trained on the sample."""
    for name in TRAINED:
        log_progress(f"AP of {name} in int8")
        folder = train_on_sample(name)
        float32, int8 = export_precisions(folder)
        before, after = compute_ap(folder, float32), compute_ap(folder, int8)
        yield Row(
            f"`{name}` trained on the sample: AP in int8",
            f"{after:.4f}, {int8.stat().st_size / 1e6:.1f} MB",
            f"{before:.4f}, {float32.stat().st_size / 1e6:.1f} MB float32",
            f"{before - after:+.4f} lost",
            f"≤ {MAX_AP_LOSS}",
            before - after <= MAX_AP_LOSS,
        )


def train_on_sample(name: str) -> Path:
    """A copy of the repository with a detector trained on the sample; only the first call trains."""
    data, folder = HOME / "data", HOME / name
    if not (folder / "models/detector.json").exists():
        if not (data / "data/coco/train.json").exists():
            sample = HOME / "sample"
            run_python(ROOT, "tools/sample_data.py", "--out", str(sample), "--images", "400")
            prepare_data(data, sample, "jsonl", "stratified")
        train_and_evaluate(data, folder, {"model": name, "image_size": TRAINED_SIZE} | TRAINED[name])
    return folder


def export_precisions(folder: Path) -> tuple[Path, Path]:
    """Export the detector in `folder` to float32 and to int8, calibrated on training images."""
    weights, card = load_checkpoint(folder / "models/detector.safetensors")
    postprocess = Postprocess()
    model = load_model(card.model, weights, len(card.classes), len(card.states), postprocess)
    metadata = build_metadata(card, postprocess).model_copy(update={"threshold": dict.fromkeys(card.classes, 0.5)})
    float32, int8 = folder / "models/float32.onnx", folder / "models/int8.onnx"
    save_onnx(convert_to_onnx(model, metadata), metadata, float32)
    files = read_ground_truth(folder / "data/coco/train.json").images.files.tolist()
    chosen = files[:: max(1, len(files) // CALIBRATION)][:CALIBRATION]
    inputs = (load_input(folder / file, metadata.size, metadata.fill) for file in chosen)
    save_onnx(quantize_int8(onnx.load(float32), inputs), metadata.model_copy(update={"precision": "int8"}), int8)
    return float32, int8


def load_input(path: Path, size: tuple[int, int], fill: tuple[int, int, int]) -> NDArray[np.uint8]:
    """One letterboxed image, uint8 [3, H, W]."""
    return load_letterboxed(path, size, fill).pixels.transpose(2, 0, 1).copy()


def compute_ap(folder: Path, file: Path) -> float:
    """AP of an ONNX file on the test images in `folder`."""
    truth = read_ground_truth(folder / "data/coco/test.json").keep_present()
    metadata, runner = open_onnx(file, THREADS)
    images = truth.images
    found = detect_images([folder / file for file in images.files.tolist()], runner, metadata, 8)
    parts = [
        round_detections(detections, image_id, width, height)
        for detections, image_id, (height, width) in zip(found, images.ids.tolist(), images.sizes.tolist(), strict=True)
    ]
    return read_coco_metrics(evaluate_boxes(truth.build_coco(), concatenate(parts)))["AP"] or 0.0
