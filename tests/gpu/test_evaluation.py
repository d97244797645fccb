"""Detections of a GPU, in PyTorch and in ONNX Runtime, beside those of the CPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.gpu_data import make_batches
from benchmarks.gpu_numerics import EXACT, compare_detections, detect_on_both, train_weights
from benchmarks.gpu_onnx import MODEL, export_trained_model, has_cuda_provider
from benchmarks.gpu_settings import GpuSettings
from detector.runners.onnx_runner import open_onnx

# torch warns where a kernel is not deterministic.
pytestmark = pytest.mark.filterwarnings("ignore:.*does not have a deterministic implementation")


@pytest.mark.parametrize("name", ["effnet_lite", "ssdlite", "faster_rcnn", "dfine_n"])
def test_detections_are_those_of_the_cpu(settings: GpuSettings, name: str) -> None:
    found = detect_on_both(settings, name, train_weights(settings, name), EXACT)
    assert found.boxes < 0.5
    assert found.scores < 0.001
    assert found.unmatched < settings.threshold


def test_the_cuda_provider_detects_what_the_cpu_does(settings: GpuSettings, tmp_path: Path) -> None:
    if not has_cuda_provider():
        pytest.skip("needs onnxruntime-gpu")
    path = export_trained_model(settings, tmp_path / "model.onnx")
    (batch,) = make_batches(1, settings.batch, settings.choose_size(MODEL), seed=9)
    cpu, gpu = (open_onnx(path, 0, provider)[1](batch.images.numpy()) for provider in ("cpu", "cuda"))
    found = compare_detections(cpu, gpu, settings.threshold)
    assert found.fits(settings.threshold), found
