"""Training on two GPUs: the weights of one GPU with the same batches."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.full_training import write_params
from benchmarks.gpu_resume import prepare_folder, run_training
from benchmarks.gpu_settings import GpuSettings
from detector.core.yaml_files import parse_yaml


@pytest.fixture(autouse=True)
def needs_two_gpus(needs_gpu: None) -> None:
    """Skip with a single GPU."""
    if torch.cuda.device_count() < 2:
        pytest.skip("needs two CUDA GPUs")


def train(folder: Path, settings: GpuSettings, processes: int) -> str:
    """Train `simple` in fp32 on the same batches; return what it prints."""
    prepare_folder(folder, settings, "simple")
    params = parse_yaml((folder / "params.yaml").read_text(encoding="utf-8"))
    params["train"] |= {"processes": processes, "batch_size": settings.batch // processes, "precision": "fp32"}
    write_params(folder, params)
    return run_training(folder)


def test_two_gpus_train_as_one(settings: GpuSettings, tmp_path: Path) -> None:
    outputs = [train(tmp_path / str(processes), settings, processes) for processes in (1, 2)]
    one, two = (
        [float(loss) for loss in re.findall(r"^epoch .*?  loss (\S+)", text, flags=re.MULTILINE)] for text in outputs
    )
    assert len(one) > 1
    assert one == pytest.approx(two, rel=0.05)
    weights = load_file(tmp_path / "2/models/detector.safetensors")
    assert all(tensor.isfinite().all() for tensor in weights.values())
    assert json.loads((tmp_path / "2/models/detector.json").read_text())["processes"] == 2
