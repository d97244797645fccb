"""Requests and responses of the Open Inference Protocol: tensors as JSON numbers or, after the JSON, as bytes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from fastapi import HTTPException
from numpy.typing import NDArray
from pydantic import Field

from detector.core.errors import UserError
from detector.core.json_files import parse_json
from detector.core.params import Section, validate_values
from detector.engine.detections import Detections
from detector.runners.model_metadata import ModelMetadata
from detector.serving.errors import suggest

INPUT = "image"  # the exported file's input, uint8 [B, 3, H, W]
# The exported file's outputs in the order of `Detections`: type, and the shape of one detection.
_OUTPUTS: dict[str, tuple[str, list[int]]] = {
    "location": ("FP32", [4]), "score": ("FP32", []), "category": ("INT64", []), "state": ("INT64", []),
    "state_score": ("FP32", []),
}  # fmt: skip
_TYPES: dict[str, np.dtype[Any]] = {"FP32": np.dtype("<f4"), "INT64": np.dtype("<i8")}
MAX_JSON = 8_000_000  # bytes: less than a second
_REQUEST = Path("the request")  # its place in messages


class _InputParameters(Section):
    binary_data_size: int | None = None


class _Input(Section):
    """An input tensor, without its numbers."""

    name: str
    datatype: str
    shape: list[int]
    parameters: _InputParameters = _InputParameters()


class _OutputParameters(Section):
    binary_data: bool | None = None


class _Output(Section):
    name: str
    parameters: _OutputParameters = _OutputParameters()


class _RequestParameters(Section):
    binary_data_output: bool = False


class _Request(Section):
    model_name: str = ""  # KServe's client repeats them here; the path decides
    model_version: str | None = None
    id: Annotated[str, Field(max_length=1000)] = ""
    parameters: _RequestParameters = _RequestParameters()
    inputs: Annotated[list[_Input], Field(min_length=1, max_length=1)]
    outputs: list[_Output] | None = None


class InferenceRequest(NamedTuple):
    """images: uint8 [B, 3, H, W]. outputs: by name, whether as bytes rather than JSON. id: of the client."""

    images: NDArray[np.uint8]
    outputs: dict[str, bool]
    id: str


class InferenceResponse(NamedTuple):
    """body: JSON, then the outputs that were asked for as bytes. json_length: bytes of JSON; None if it is all."""

    body: bytes
    json_length: int | None


def describe_tensors(metadata: ModelMetadata) -> dict[str, list[dict[str, Any]]]:
    """The `inputs` and `outputs` of the model's metadata; -1 is the number of images or of detections."""
    outputs = [{"name": name, "datatype": _OUTPUTS[name][0], "shape": [-1, -1, *_OUTPUTS[name][1]]}
               for name in _output_names(metadata)]  # fmt: skip
    return {"inputs": [{"name": INPUT, "datatype": "UINT8", "shape": [-1, 3, *metadata.size]}], "outputs": outputs}


def parse_inference_request(
    body: bytes, json_length: str | None, metadata: ModelMetadata, max_images: int
) -> InferenceRequest:
    """Parse a body; json_length: the header Inference-Header-Content-Length, for a body with bytes after the JSON.

    Raises HTTPException: 400 for what does not fit the protocol or the model, 413 for more than max_images.
    """
    try:
        text, binary = _split_body(body, json_length)
        _check_size(text, metadata, max_images)
        values = parse_json(text.decode("utf-8"), str(_REQUEST))
        data = _take_data(values)
        request = validate_values(_REQUEST, values, _Request)
        images = _read_images(request.inputs[0], data, binary, metadata, max_images)
        return InferenceRequest(images, _read_outputs(request, metadata), request.id)
    except (UserError, UnicodeDecodeError) as error:
        raise HTTPException(400, str(error)[:1000]) from None


def build_inference_response(
    request: InferenceRequest, found: list[Detections], metadata: ModelMetadata, name: str, version: str
) -> InferenceResponse:
    """The outputs as the exported file has them: detections of each image in its input, best first, scores as the
    model gave them. Images with fewer detections than others of the request have rows of zeros in the end.
    """
    described, blobs = [], []
    for output, is_binary in request.outputs.items():
        tensor = _pad(found, list(_OUTPUTS).index(output), *_OUTPUTS[output])
        one: dict[str, Any] = {"name": output, "datatype": _OUTPUTS[output][0], "shape": list(tensor.shape)}
        if is_binary:
            blobs.append(tensor.tobytes())
            one["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            one["data"] = tensor.ravel().tolist()
        described.append(one)
    parameters = {"scores": "uncalibrated", "temperature": metadata.temperature}
    answer = {"model_name": name, "model_version": version, **({"id": request.id} if request.id else {}),
              "parameters": parameters, "outputs": described}  # fmt: skip
    text = json.dumps(answer).encode()
    return InferenceResponse(b"".join([text, *blobs]), len(text) if blobs else None)


def _output_names(metadata: ModelMetadata) -> list[str]:
    return [name for name in _OUTPUTS if metadata.states or not name.startswith("state")]


def _split_body(body: bytes, json_length: str | None) -> tuple[bytes, bytes]:
    if json_length is None:
        return body, b""
    if not (json_length.isdecimal() and len(json_length) < 20 and int(json_length) <= len(body)):
        raise UserError(
            f"the header Inference-Header-Content-Length is {json_length[:80]!r}, expected the length of the JSON "
            f"in a body of {len(body):,} bytes"
        )
    return body[: int(json_length)], body[int(json_length) :]


def _check_size(text: bytes, metadata: ModelMetadata, max_images: int) -> None:
    """Before JSON is parsed: while that happens nothing else does, and a list takes many times its characters."""
    height, width = metadata.size
    longest = max(MAX_JSON, 5 * 3 * height * width + 1000)  # `255, ` for each value of at least one image
    if len(text) > longest:
        raise HTTPException(413, f"{len(text):,} bytes of JSON, {longest:,} are allowed: send the images as bytes, "
                                 "with the protocol's binary extension")  # fmt: skip
    most = 1000 + 8 * max_images * height
    if sum(map(text.count, (b"[", b"{", b'"'))) > most:
        raise UserError(f"{_REQUEST}: more lists and strings than {max_images} images have")


def _take_data(values: Any) -> Any:
    """Remove the numbers of the first input, which are not for `validate_values`."""
    inputs = values.get("inputs") if isinstance(values, dict) else None
    first = inputs[0] if isinstance(inputs, list) and inputs else None
    return first.pop("data", None) if isinstance(first, dict) else None


def _read_images(
    tensor: _Input, data: Any, binary: bytes, metadata: ModelMetadata, max_images: int
) -> NDArray[np.uint8]:
    if tensor.name != INPUT:
        raise UserError(f"{_REQUEST}: input {tensor.name[:80]!r}, expected {INPUT!r}")
    if tensor.datatype != "UINT8":
        raise UserError(f"{_REQUEST}: datatype {tensor.datatype[:80]!r}, expected 'UINT8'")
    count = (tensor.shape or [0])[0]
    if count < 1 or tensor.shape[1:] != [3, *metadata.size]:
        height, width = metadata.size
        raise UserError(f"{_REQUEST}: shape {str(tensor.shape)[:80]}, expected [images, 3, {height}, {width}]")
    if count > max_images:
        raise HTTPException(413, f"{count} images in one request, {max_images} are allowed")
    size = tensor.parameters.binary_data_size
    if size is None and not binary:
        return _convert_numbers(data, tensor.shape)
    if data is not None or size != len(binary) or len(binary) != math.prod(tensor.shape):
        raise UserError(
            f"{_REQUEST}: `binary_data_size` is {str(size)[:80]} and {len(binary):,} bytes follow the JSON, expected "
            f"{math.prod(tensor.shape):,} for shape {tensor.shape}, and no `data`"
        )
    return np.frombuffer(binary, np.uint8).reshape(tensor.shape)


def _convert_numbers(data: Any, shape: list[int]) -> NDArray[np.uint8]:
    """From a flat or nested list."""
    try:
        numbers = np.array([] if data is None else data)
    except (ValueError, OverflowError):
        raise UserError(f"{_REQUEST}: `data` of {INPUT!r} is not a regular list of numbers") from None
    if numbers.size != math.prod(shape) or numbers.shape not in ((numbers.size,), tuple(shape)):
        raise UserError(f"{_REQUEST}: `data` of {INPUT!r} has shape {list(numbers.shape)}, expected {shape}, or flat")
    if numbers.dtype.kind not in "iu" or numbers.min() < 0 or numbers.max() > 255:
        raise UserError(f"{_REQUEST}: `data` of {INPUT!r} holds other values than integers from 0 to 255")
    return numbers.astype(np.uint8).reshape(shape)


def _read_outputs(request: _Request, metadata: ModelMetadata) -> dict[str, bool]:
    names = _output_names(metadata)
    chosen = {}
    for output in request.outputs or [_Output(name=name) for name in names]:
        if output.name not in names:
            raise UserError(f"{_REQUEST}: no output {output.name[:80]!r}{suggest(output.name, names)}")
        is_binary = output.parameters.binary_data
        chosen[output.name] = request.parameters.binary_data_output if is_binary is None else is_binary
    return chosen


def _pad(found: list[Detections], column: int, datatype: str, shape: list[int]) -> NDArray[Any]:
    """One column of the detections of all images: [B, N, *shape] for at most N detections in an image."""
    most = max(len(one.labels) for one in found)
    padded: NDArray[Any] = np.zeros((len(found), most, *shape), _TYPES[datatype])
    for row, detections in zip(padded, found, strict=True):
        row[: len(detections.labels)] = detections[column]
    return padded
