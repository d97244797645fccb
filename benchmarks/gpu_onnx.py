"""The exported file with ONNX Runtime's CUDA provider, where it is installed, beside the CPU's."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import onnxruntime

from benchmarks.gpu_data import CLASSES, make_batches
from benchmarks.gpu_numerics import compare_detections, describe_target, train_weights
from benchmarks.gpu_settings import GpuSettings, Part
from benchmarks.gpu_training import build_model, measure_rate
from benchmarks.table import Row
from detector.exporting.onnx_file import export_onnx
from detector.runners.model_metadata import ModelMetadata
from detector.runners.onnx_runner import PROVIDERS, open_onnx
from detector.runners.tiled import Runner

MODEL = "simple"


def list_providers(settings: GpuSettings, scratch: Path) -> Part:
    """One measurement."""
    return [("ONNX Runtime", partial(compare_providers, settings, scratch))]


def has_cuda_provider() -> bool:
    """Whether the installed ONNX Runtime can use a GPU."""
    return PROVIDERS["cuda"][0] in onnxruntime.get_available_providers()


def compare_providers(settings: GpuSettings, scratch: Path) -> Iterator[Row]:
    """Speed and detections of both providers; without the CUDA provider, a row that says so."""
    path = export_trained_model(settings, scratch / "model.onnx")
    cpu = open_onnx(path, 0, "cpu")[1]
    (batch,) = make_batches(1, settings.batch, settings.choose_size(MODEL), seed=9)
    images = batch.images.numpy()

    def measure(runner: Runner) -> float:
        return measure_rate(lambda steps: [runner(images) for _ in range(steps)], settings)

    what = f"`{MODEL}`, ONNX file, {settings.batch} images"
    baseline = f"{measure(cpu):,.0f} images/s CPU provider"
    if not has_cuda_provider():
        yield Row(what, "not installed", baseline, f"needs {PROVIDERS['cuda'][1]} instead of onnxruntime")
        return
    gpu = open_onnx(path, 0, "cuda")[1]
    found = compare_detections(cpu(images), gpu(images), settings.threshold)
    ours = f"{measure(gpu):,.0f} images/s CUDA provider"
    target, passed = describe_target(settings.threshold), found.fits(settings.threshold)
    yield Row(what, ours, baseline, found.describe(), target, passed)


def export_trained_model(settings: GpuSettings, path: Path) -> Path:
    """Train a model for a few steps and export it."""
    model = build_model(MODEL)
    model.load_state_dict(train_weights(settings, MODEL))
    classes = [f"class {number + 1}" for number in range(CLASSES)]
    metadata = ModelMetadata(
        model=MODEL,
        classes=classes,
        states=[],
        size=settings.choose_size(MODEL),
        fill=(0, 0, 0),
        data="",
        threshold=dict.fromkeys(classes, 0.5),
    )
    export_onnx(model.eval(), metadata, path)
    return path
