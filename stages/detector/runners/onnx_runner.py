"""Run an exported ONNX file with NumPy and ONNX Runtime, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from detector.core.errors import UserError
from detector.core.json_files import parse_json
from detector.core.params import validate_values
from detector.engine.detections import Detections
from detector.runners.model_metadata import ModelMetadata
from detector.runners.raw_decoding import decode_raw_outputs
from detector.runners.tiled import Runner

# Command-line name, fastest first: ONNX Runtime's name, and the package that contains it.
PROVIDERS = {
    "cuda": ("CUDAExecutionProvider", "onnxruntime-gpu"),
    "openvino": ("OpenVINOExecutionProvider", "onnxruntime-openvino"),
    "cpu": ("CPUExecutionProvider", "onnxruntime"),
}

_ADVICE = "it is not an ONNX file of this project, or one of another version: `dvc repro export` writes such a file"
# Name: type and shape, of which None is the batch or the number of detections.
_OUTPUTS: dict[str, tuple[str, tuple[int | None, ...]]] = {
    "location": ("tensor(float)", (None, None, 4)),
    "score": ("tensor(float)", (None, None)),
    "category": ("tensor(int64)", (None, None)),
    "state": ("tensor(int64)", (None, None)),
    "state_score": ("tensor(float)", (None, None)),
}
_STATE_OUTPUTS = ("state", "state_score")
# Outputs of a file without NMS, for one image; None is the number of locations, of classes or of states.
RAW_OUTPUTS = ("boxes", "scores", "state_scores")
_OPTIONAL_KEYS = ("object_size", "versions", "decoding")  # files of older versions have NMS, and not these
_ROUNDING = 1e-3  # by which a score may leave 0..1 in lower precision


def open_onnx(path: Path, threads: int, provider: str = "cpu") -> tuple[ModelMetadata, Runner]:
    """Open a file written by export; it runs on this many CPU threads (0: all cores).

    provider: the execution provider, one of PROVIDERS, or auto for the first one available on this machine.
    The runner takes uint8 [B, 3, H, W]; it raises UserError for a batch size other than the file's fixed one, if any.
    Raises UserError when the file is missing or unreadable, when its metadata, inputs or outputs are not those that
    export writes, and when the provider is not available. The runner raises it too: for outputs that do not fit the
    metadata, such as a class without a name, and for whatever goes wrong within ONNX Runtime.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file; `dvc repro export` writes models/model.onnx, or `dvc pull`")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3  # errors only; they are also raised
    session = _open_session(path, options, provider)
    metadata = _read_metadata(path, session)
    _check_interface(path, session, metadata)
    return metadata, lambda images: _run_batch(session, metadata, images, path)


def _open_session(path: Path, options: onnxruntime.SessionOptions, provider: str) -> onnxruntime.InferenceSession:
    """Load the file with a provider, or with the first one that works."""
    available = onnxruntime.get_available_providers()
    candidates = [name for name, (full, _) in PROVIDERS.items() if full in available and provider in (name, "auto")]
    if provider not in (*PROVIDERS, "auto"):
        raise UserError(f"provider {provider!r}: expected auto, {', '.join(PROVIDERS)}")
    for name in candidates:
        wanted = [PROVIDERS[name][0], *([] if name == "cpu" else [PROVIDERS["cpu"][0]])]
        try:
            session = onnxruntime.InferenceSession(path, options, providers=wanted, enable_fallback=False)
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
    fields = ModelMetadata.model_fields
    try:
        stored = session.get_modelmeta().custom_metadata_map
        if missing := [key for key in fields if key not in stored and key not in _OPTIONAL_KEYS]:
            raise UserError(f"{path}: no metadata `{missing[0]}`, expected {', '.join(fields)}")
        values = {key: parse_json(stored[key], f"{path}: metadata `{key}`") for key in fields if key in stored}
        metadata = validate_values(path, values, ModelMetadata, "metadata")
        if not metadata.threshold:
            raise UserError(f"{path}: metadata `threshold` is empty, expected one value for each of `classes`")
        return metadata
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: metadata that is not UTF-8 text: {error}; {_ADVICE}") from None
    except UserError as error:
        raise UserError(f"{error}; {_ADVICE}") from None


def _check_interface(path: Path, session: onnxruntime.InferenceSession, metadata: ModelMetadata) -> None:
    """Raise UserError unless inputs and outputs are those of an exported file with these metadata."""
    inputs = [_describe(one) for one in session.get_inputs()]
    height, width = metadata.size
    if len(inputs) != 1 or not _fits(inputs[0], "tensor(uint8)", (None, 3, height, width)):
        raise UserError(
            f"{path}: inputs {inputs}, expected one tensor(uint8) [batch, 3, {height}, {width}], which is what its "
            f"metadata `size` says; {_ADVICE}"
        )
    found = {one.name: _describe(one) for one in session.get_outputs()}
    expected = _list_outputs(metadata)
    for name, (kind, shape) in expected.items():
        if name not in found or not _fits(found[name], kind, shape):
            raise UserError(
                f"{path}: output `{name}` is {found.get(name, 'missing')}, expected {kind} {shape}; {_ADVICE}"
            )
    if extra := sorted(set(found) - set(expected)):
        raise UserError(
            f"{path}: output `{extra[0]}`, expected only {', '.join(expected)} for {len(metadata.states)} `states`; "
            f"{_ADVICE}"
        )


def _list_outputs(metadata: ModelMetadata) -> dict[str, tuple[str, tuple[int | None, ...]]]:
    """Type and shape of each output that a file with these metadata has."""
    if metadata.decoding is None:
        return {name: form for name, form in _OUTPUTS.items() if metadata.states or name not in _STATE_OUTPUTS}
    columns = (4, len(metadata.classes), len(metadata.states))
    return {
        name: ("tensor(float)", (1, None, count)) for name, count in zip(RAW_OUTPUTS, columns, strict=True) if count
    }


def _describe(value: onnxruntime.NodeArg) -> tuple[str, list[int | str | None]]:
    return value.type, list(value.shape)


def _fits(found: tuple[str, list[int | str | None]], kind: str, shape: tuple[int | None, ...]) -> bool:
    """Whether a tensor has this type and shape; None is any size, as is a name in the file for all but the input."""
    return (
        found[0] == kind
        and len(found[1]) == len(shape)
        and all(wanted in (None, size) for size, wanted in zip(found[1], shape, strict=True))
    )


def _run_batch(
    session: onnxruntime.InferenceSession, metadata: ModelMetadata, images: NDArray[np.uint8], path: Path
) -> list[Detections]:
    """Run uint8 images [B, 3, H, W]; padded rows are dropped. A file without NMS runs them one by one."""
    if metadata.decoding is not None:
        return [_run_raw(session, metadata, image[None], path) for image in images]
    outputs = _run_session(session, images, path)
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
    if any(column.shape[:2] != labels.shape for column in columns):
        shapes = [list(column.shape) for column in columns]
        raise UserError(f"{path} returned outputs of different lengths, {shapes}; export it again")
    found = Detections._make(columns).select(labels > 0)
    _check_detections(path, metadata, found, int(labels.min(initial=0)))
    padded = [Detections._make(row) for row in zip(*columns, strict=True)]
    return [detections.select(detections.labels > 0) for detections in padded]


def _run_raw(
    session: onnxruntime.InferenceSession, metadata: ModelMetadata, image: NDArray[np.uint8], path: Path
) -> Detections:
    """Run one image uint8 [1, 3, H, W] through a file without NMS."""
    assert metadata.decoding is not None
    outputs = _run_session(session, image, path)
    columns = [outputs[name][0] for name in RAW_OUTPUTS if name in outputs]
    if len({len(column) for column in columns}) > 1:
        shapes = [list(column.shape) for column in columns]
        raise UserError(f"{path} returned outputs of different lengths, {shapes}; export it again")
    if not all(np.isfinite(column).all() for column in columns):  # decoding would drop a NaN score unseen
        raise UserError(f"{path} returned a value that is infinite or no number; export it again")
    found = decode_raw_outputs(columns[0], columns[1], columns[2] if metadata.states else None, metadata.decoding)
    _check_detections(path, metadata, found, 0)
    return found


def _run_session(
    session: onnxruntime.InferenceSession, images: NDArray[np.uint8], path: Path
) -> dict[str, NDArray[Any]]:
    """The outputs by name for uint8 images [B, 3, H, W]."""
    image = session.get_inputs()[0]
    if isinstance(image.shape[0], int) and image.shape[0] != len(images):
        raise UserError(f"{path} has a fixed batch size of {image.shape[0]}, got {len(images)} images")
    names = [output.name for output in session.get_outputs()]
    try:
        return dict(zip(names, session.run(names, {image.name: images}), strict=True))
    except Exception as error:  # ONNX Runtime's exceptions have no common base class
        raise UserError(f"{path}: ONNX Runtime cannot run it ({error})") from None


def _check_detections(path: Path, metadata: ModelMetadata, found: Detections, lowest: int) -> None:
    """Raise UserError for values that no exported file returns; lowest: of all labels, with those of padded rows."""
    highest = int(found.labels.max(initial=0))
    if lowest < 0 or highest > len(metadata.classes):
        raise UserError(
            f"{path} returned the class {lowest if lowest < 0 else highest}, and its metadata name "
            f"{len(metadata.classes)} `classes`; export it again"
        )
    states = int(found.states.min(initial=0)), int(found.states.max(initial=0))
    if states[0] < 0 or states[1] > len(metadata.states):
        raise UserError(
            f"{path} returned the state {states[0] if states[0] < 0 else states[1]}, and its metadata name "
            f"{len(metadata.states)} `states`; export it again"
        )
    for name, scores in (("score", found.scores), ("state_score", found.state_scores)):
        if not (np.isfinite(scores) & (scores > -_ROUNDING) & (scores < 1 + _ROUNDING)).all():
            raise UserError(f"{path} returned a `{name}` that is not from 0 to 1; export it again")
    if not np.isfinite(found.boxes_xyxy).all():
        raise UserError(f"{path} returned a `location` that is infinite or no number; export it again")
