"""Every model of the table as an ONNX file, without a download: weights that answer as after training."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.photographs import photograph
from detector.core.images import letterbox
from detector.exporting.onnx_file import write_onnx
from detector.models.postprocess import Postprocess
from detector.models.state_head import States
from detector.runners.onnx_runner import open_onnx
from detector.runners.tiled import ModelMetadata, Runner
from detector.runners.torch_runner import runner_of
from tests.support.trained_like import trained_like

SIZE = (320, 320)
FILL = (120, 120, 120)
CLASSES, STATES = ["one", "two"], ["whole", "gone"]
THREADS = 2  # of either side
Images = NDArray[np.uint8]


class Deployed(NamedTuple):
    """One model as PyTorch runs it and as its ONNX file, opened; all take uint8 [B, 3, *SIZE].

    nearby: PyTorch with each weight changed by about a rounding, which shows how much rounding matters to this model.
    """

    name: str
    path: Path
    eager: Runner
    file: Runner
    nearby: Runner


def deploy(name: str, folder: Path) -> Deployed:
    """Write `folder`/name.onnx and open it."""
    torch.set_num_threads(THREADS)
    model = made(name)
    path = folder / f"{name}.onnx"
    write_onnx(model, ModelMetadata(name, CLASSES, STATES, SIZE, FILL, "", dict.fromkeys(CLASSES, 0.5)), path)
    eager, nearby = (runner_of(one, torch.device("cpu")) for one in (model, jittered(made(name))))
    return Deployed(name, path, eager, open_onnx(path, THREADS)[1], nearby)


def made(name: str) -> nn.Module:
    """The same at each call."""
    model = trained_like(name, States((True, False), (1.0, 1.0), 0.5), pictures(4))
    setattr(model, "postprocess", Postprocess())  # noqa: B010  a module that mypy knows nothing of
    return model


def jittered(model: nn.Module) -> nn.Module:
    """The model with each weight changed by up to one rounding of float32, at random."""
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(1 + (2 * torch.rand_like(weight) - 1) * torch.finfo(torch.float32).eps)
    return model


def pictures(count: int, first: int = 0) -> Images:
    """Generated photographs [count, 3, *SIZE], fitted and padded as every image is; `first`: from another number on."""
    fitted = [letterbox(photograph(number), SIZE, FILL).pixels for number in range(first, first + count)]
    return np.stack(fitted).transpose(0, 3, 1, 2).copy()
