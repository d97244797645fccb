"""The exported ONNX file as a detector: no torch, only NumPy and ONNX Runtime."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from detector.errors import UserError
from detector.inference.detections import Found
from detector.inference.running import Facts, Runner


def open_onnx(path: Path, threads: int) -> tuple[Facts, Runner]:
    """A file that export wrote, to be run on the CPU by so many threads (0: all cores).

    Raises UserError when the file is missing, cannot be read, or lacks what export writes into it.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; `dvc repro export` writes models/model.onnx, or `dvc pull`")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors; they are raised too
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions have no base class of their own
        raise UserError(f"{path}: ONNX Runtime cannot load it ({error})") from None
    return _facts(path, session), lambda images: _answer(session, images, path)


def _facts(path: Path, session: onnxruntime.InferenceSession) -> Facts:
    metadata = session.get_modelmeta().custom_metadata_map
    try:
        model, classes, states, size, fill, data = (json.loads(metadata[key]) for key in Facts._fields)
        facts = Facts(model, classes, states, (size[0], size[1]), (fill[0], fill[1], fill[2]), data)
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise UserError(
            f"{path}: no ONNX file of this project: its metadata lack or garble {error}, and should hold "
            f"{', '.join(Facts._fields)}; `python stages/export.py` writes such a file"
        ) from None
    return facts


def _answer(session: onnxruntime.InferenceSession, images: NDArray[np.uint8], path: Path) -> list[Found]:
    """Run uint8 images [B, 3, H, W]; padding is left out."""
    names = [output.name for output in session.get_outputs()]
    outputs = dict(zip(names, session.run(names, {session.get_inputs()[0].name: images}), strict=True))
    labels = outputs["category"]
    if len(labels) != len(images):
        raise UserError(f"{path} answered {len(labels)} images of a batch of {len(images)}; export it anew")
    columns = (
        outputs["location"],
        outputs["score"],
        labels,
        outputs.get("state", np.zeros_like(labels)),
        outputs.get("state_score", np.zeros_like(outputs["score"])),
    )
    found = [Found._make(row) for row in zip(*columns, strict=True)]
    return [one.chosen(one.labels > 0) for one in found]
