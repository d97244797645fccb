"""Run an exported ONNX file with NumPy and ONNX Runtime, without torch."""

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

# Command-line name, fastest first: ONNX Runtime's name, and the package that contains it.
PROVIDERS = {
    "cuda": ("CUDAExecutionProvider", "onnxruntime-gpu"),
    "openvino": ("OpenVINOExecutionProvider", "onnxruntime-openvino"),
    "cpu": ("CPUExecutionProvider", "onnxruntime"),
}


def open_onnx(path: Path, threads: int, provider: str = "cpu") -> tuple[ModelMetadata, Runner]:
    """Open a file written by export; it runs on this many CPU threads (0: all cores).

    provider: the execution provider, one of PROVIDERS, or auto for the first one available on this machine.
    The runner takes uint8 [B, 3, H, W]; it raises UserError for a batch size other than the file's fixed one, if any.
    Raises UserError when the file is missing, unreadable or lacks the metadata written by export, and when the
    provider is not available.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; `dvc repro export` writes models/model.onnx, or `dvc pull`")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors only; they are also raised
    session = _open_session(path, options, provider)
    return _read_metadata(path, session), lambda images: _run_batch(session, images, path)


def _open_session(path: Path, options: onnxruntime.SessionOptions, provider: str) -> onnxruntime.InferenceSession:
    """Load the file with a provider, or with the first one that works."""
    available = onnxruntime.get_available_providers()
    candidates = [name for name, (full, _) in PROVIDERS.items() if full in available and provider in (name, "auto")]
    if provider not in (*PROVIDERS, "auto"):
        raise UserError(f"provider {provider!r}: expected auto, {', '.join(PROVIDERS)}")
    for name in candidates:
        wanted = [PROVIDERS[name][0], *([] if name == "cpu" else [PROVIDERS["cpu"][0]])]
        try:
            session = onnxruntime.InferenceSession(path, options, providers=wanted)
        except Exception as error:  # ONNX Runtime's exceptions have no common base class
            if name != candidates[-1]:
                continue
            raise UserError(f"{path}: ONNX Runtime cannot load it ({error})") from None
        if session.get_providers()[0] == wanted[0]:  # otherwise it silently fell back to the CPU
            return session
    raise UserError(
        f"provider {provider} is not available (this ONNX Runtime has {', '.join(available)}); install "
        f"{PROVIDERS[provider][1]} in place of onnxruntime, with the drivers it needs, or choose another provider"
    )


def _read_metadata(path: Path, session: onnxruntime.InferenceSession) -> ModelMetadata:
    metadata = session.get_modelmeta().custom_metadata_map
    try:
        values: dict[str, Any] = {key: json.loads(metadata[key]) for key in ModelMetadata._fields}
        size, fill, threshold = values["size"], values["fill"], values["threshold"]
        return ModelMetadata(**values)._replace(
            size=(int(size[0]), int(size[1])),
            fill=(fill[0], fill[1], fill[2]),
            threshold={name: float(threshold[name]) for name in values["classes"]},
            temperature=float(values["temperature"]),
        )
    except (KeyError, ValueError, IndexError, TypeError) as error:
        raise UserError(
            f"{path}: not an ONNX file of this project, or one from an earlier version: missing or invalid metadata "
            f"({error}); expected {', '.join(ModelMetadata._fields)}. `dvc repro export` writes such a file"
        ) from None


def _run_batch(session: onnxruntime.InferenceSession, images: NDArray[np.uint8], path: Path) -> list[Detections]:
    """Run uint8 images [B, 3, H, W]; padded rows are dropped."""
    image = session.get_inputs()[0]
    if isinstance(image.shape[0], int) and image.shape[0] != len(images):
        raise UserError(f"{path} has a fixed batch size of {image.shape[0]}, got {len(images)} images")
    names = [output.name for output in session.get_outputs()]
    outputs = dict(zip(names, session.run(names, {image.name: images}), strict=True))
    labels = outputs["category"]
    if len(labels) != len(images):
        raise UserError(f"{path} returned results for {len(labels)} of {len(images)} images; export it again")
    columns = (
        outputs["location"],
        outputs["score"],
        labels,
        outputs.get("state", np.zeros_like(labels)),
        outputs.get("state_score", np.zeros_like(outputs["score"])),
    )
    padded = [Detections._make(row) for row in zip(*columns, strict=True)]
    return [detections.select(detections.labels > 0) for detections in padded]
