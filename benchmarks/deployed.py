"""Every model of the table as an ONNX file, without a download: weights that answer as after training."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.photographs import photograph
from detector.data.images import letterbox
from detector.evaluation.torch_runner import runner_of
from detector.exporting.onnx_file import write_onnx
from detector.inference.onnx_runner import open_onnx
from detector.inference.running import Facts, Runner
from detector.models.postprocess import Postprocess
from detector.models.state_head import States
from tests.trained_like import trained_like

SIZE = (320, 320)
FILL = (120, 120, 120)
CLASSES, STATES = ["one", "two"], ["whole", "gone"]
THREADS = 2  # of either side
Images = NDArray[np.uint8]


class Deployed(NamedTuple):
    """One model as PyTorch runs it and as its ONNX file, opened; both take uint8 [B, 3, *SIZE]."""

    name: str
    path: Path
    eager: Runner
    file: Runner


def deploy(name: str, folder: Path) -> Deployed:
    """Write `folder`/name.onnx and open it."""
    torch.set_num_threads(THREADS)
    model = trained_like(name, States((True, False), (1.0, 1.0), 0.5), pictures(4))
    setattr(model, "postprocess", Postprocess())  # noqa: B010  a module that mypy knows nothing of
    path = folder / f"{name}.onnx"
    write_onnx(model, Facts(name, CLASSES, STATES, SIZE, FILL, "", dict.fromkeys(CLASSES, 0.5)), path)
    return Deployed(name, path, runner_of(model, torch.device("cpu")), open_onnx(path, THREADS)[1])


def pictures(count: int, first: int = 0) -> Images:
    """Generated photographs [count, 3, *SIZE], fitted and padded as every image is; `first`: from another number on."""
    fitted = [letterbox(photograph(number), SIZE, FILL).pixels for number in range(first, first + count)]
    return np.stack(fitted).transpose(0, 3, 1, 2).copy()
