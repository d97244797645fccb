"""The exported ONNX file as a detector: no torch, only NumPy and ONNX Runtime."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from detector.core.errors import UserError
from detector.engine.detections import Detections
from detector.runners.tiled import ModelMetadata, Runner

# By the name that a user gives, best first; and the package that brings it.
PROVIDERS = {
    "cuda": ("CUDAExecutionProvider", "onnxruntime-gpu"),
    "openvino": ("OpenVINOExecutionProvider", "onnxruntime-openvino"),
    "cpu": ("CPUExecutionProvider", "onnxruntime"),
}


def open_onnx(path: Path, threads: int, provider: str = "cpu") -> tuple[ModelMetadata, Runner]:
    """A file that export wrote, to be run by so many threads of the CPU (0: all cores).

    provider: what computes, one of PROVIDERS, or auto for the first of them that works here.
    The runner takes uint8 [B, 3, H, W], and raises UserError for a batch size that a file with a fixed one refuses.
    Raises UserError when the file is missing, cannot be read, or lacks what export writes into it, and when this
    machine does not have the provider.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; `dvc repro export` writes models/model.onnx, or `dvc pull`")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors; they are raised too
    session = _session(path, options, provider)
    return _facts(path, session), lambda images: _answer(session, images, path)


def _session(path: Path, options: onnxruntime.SessionOptions, provider: str) -> onnxruntime.InferenceSession:
    """The file loaded by a provider, or by the first that works."""
    available = onnxruntime.get_available_providers()
    chosen = [name for name, (full, _) in PROVIDERS.items() if full in available and provider in (name, "auto")]
    if provider not in (*PROVIDERS, "auto"):
        raise UserError(f"provider {provider!r}: expected auto, {', '.join(PROVIDERS)}")
    for name in chosen:
        wanted = [PROVIDERS[name][0], *([] if name == "cpu" else [PROVIDERS["cpu"][0]])]
        try:
            session = onnxruntime.InferenceSession(path, options, providers=wanted)
        except Exception as error:  # its exceptions have no base class of their own
            if name != chosen[-1]:
                continue
            raise UserError(f"{path}: ONNX Runtime cannot load it ({error})") from None
        if session.get_providers()[0] == wanted[0]:  # or else it fell back, without a word
            return session
    raise UserError(
        f"provider {provider}: not to be had here (this ONNX Runtime has {', '.join(available)}); install "
        f"{PROVIDERS[provider][1]} in place of onnxruntime, with the drivers it needs, or take another provider"
    )


def _facts(path: Path, session: onnxruntime.InferenceSession) -> ModelMetadata:
    metadata = session.get_modelmeta().custom_metadata_map
    try:
        read: dict[str, Any] = {key: json.loads(metadata[key]) for key in ModelMetadata._fields}
        size, fill, threshold = read["size"], read["fill"], read["threshold"]
        return ModelMetadata(**read)._replace(
            size=(int(size[0]), int(size[1])),
            fill=(fill[0], fill[1], fill[2]),
            threshold={name: float(threshold[name]) for name in read["classes"]},
            temperature=float(read["temperature"]),
        )
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise UserError(
            f"{path}: no ONNX file of this project, or one of an earlier version: its metadata lack or garble {error}, "
            f"and should hold {', '.join(ModelMetadata._fields)}; `dvc repro export` writes such a file"
        ) from None


def _answer(session: onnxruntime.InferenceSession, images: NDArray[np.uint8], path: Path) -> list[Detections]:
    """Run uint8 images [B, 3, H, W]; padding is left out."""
    image = session.get_inputs()[0]
    if isinstance(image.shape[0], int) and image.shape[0] != len(images):
        raise UserError(f"{path} takes batches of {image.shape[0]} only, and was given {len(images)} images")
    names = [output.name for output in session.get_outputs()]
    outputs = dict(zip(names, session.run(names, {image.name: images}), strict=True))
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
    found = [Detections._make(row) for row in zip(*columns, strict=True)]
    return [one.chosen(one.labels > 0) for one in found]
