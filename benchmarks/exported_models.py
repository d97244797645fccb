"""Export any model with random weights that are scaled as after training, so nothing is downloaded or trained."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.photographs import generate_photograph
from benchmarks.workspace import ROOT
from detector.core.pixels import letterbox
from detector.exporting.onnx_file import export_onnx
from detector.models.postprocess import Postprocess
from detector.models.state_head import StateConfig
from detector.runners.model_metadata import ModelMetadata
from detector.runners.onnx_runner import open_onnx
from detector.runners.tiled import Runner
from detector.runners.torch_runner import build_runner
from tests.support.synthetic_model import build_synthetic_model

HOME = ROOT / ".cache/bench-export"
SIZE = (320, 320)
FILL = (120, 120, 120)
CLASSES, STATES = ["one", "two"], ["whole", "gone"]
THREADS = 2  # for PyTorch and for ONNX Runtime
ImageBatch = NDArray[np.uint8]


class ExportedModel(NamedTuple):
    """Runners of one model in PyTorch and in ONNX Runtime; all take uint8 [B, 3, *SIZE].

    perturbed: PyTorch with each weight changed by about one rounding error, to show the model's sensitivity to it.
    """

    name: str
    path: Path
    pytorch: Runner
    onnx: Runner
    perturbed: Runner


def export_model(name: str) -> ExportedModel:
    """Write name.onnx to HOME and load it."""
    torch.set_num_threads(THREADS)
    model = build_model(name)
    path = HOME / f"{name}.onnx"
    thresholds = dict.fromkeys(CLASSES, 0.5)
    metadata = ModelMetadata(
        model=name, classes=CLASSES, states=STATES, size=SIZE, fill=FILL, data="", threshold=thresholds
    )
    export_onnx(model, metadata, path)
    pytorch, perturbed = (build_runner(one, torch.device("cpu")) for one in (model, perturb_weights(build_model(name))))
    return ExportedModel(name, path, pytorch, open_onnx(path, THREADS)[1], perturbed)


def build_model(name: str) -> nn.Module:
    """The model, with the same weights in each call."""
    model = build_synthetic_model(name, StateConfig((True, False), (1.0, 1.0), 0.5), make_inputs(4))
    setattr(model, "postprocess", Postprocess())  # noqa: B010  nn.Module declares no such attribute
    return model


def perturb_weights(model: nn.Module) -> nn.Module:
    """Change each weight randomly by up to one float32 rounding error."""
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1 + (2 * torch.rand_like(weight) - 1) * torch.finfo(torch.float32).eps)
    return model


def make_inputs(count: int, first: int = 0) -> ImageBatch:
    """Letterboxed generated photographs, uint8 [count, 3, *SIZE], numbered from `first`."""
    images = [letterbox(generate_photograph(number), SIZE, FILL).pixels for number in range(first, first + count)]
    return np.stack(images).transpose(0, 3, 1, 2).copy()
