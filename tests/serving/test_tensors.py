"""Tensors taken apart and put together: the Open Inference Protocol's JSON and its binary extension."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from fastapi import HTTPException
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.engine.detections import Detections
from detector.runners.model_metadata import ModelMetadata
from detector.serving.tensors import (
    InferenceRequest,
    build_inference_response,
    describe_tensors,
    parse_inference_request,
)
from tests.support.brightness import FACTS

METADATA = ModelMetadata(**FACTS).model_copy(update={"size": (2, 4)})  # smaller than a model's, to be written out
IMAGES = np.arange(48, dtype=np.uint8).reshape(2, 3, 2, 4)
MOST = 3  # images


def ask(**changes: Any) -> dict[str, Any]:
    """A request of two images as JSON; changes: to its input."""
    tensor = {"name": "image", "datatype": "UINT8", "shape": list(IMAGES.shape), "data": IMAGES.tolist()}
    return {"inputs": [tensor | changes]}


def parse(values: object, binary: bytes | None = None) -> InferenceRequest:
    text = json.dumps(values).encode()
    length = None if binary is None else str(len(text))
    return parse_inference_request(text + (binary or b""), length, METADATA, MOST)


def refuse(values: object, binary: bytes | None = None) -> HTTPException:
    with pytest.raises(HTTPException) as caught:
        parse(values, binary)
    assert len(caught.value.detail) <= 1000
    return caught.value


@pytest.mark.parametrize("data", [IMAGES.tolist(), IMAGES.ravel().tolist()])
def test_numbers_nested_or_flat(data: list[Any]) -> None:
    asked = parse(ask(data=data) | {"id": "7"})
    assert asked.images.dtype == np.uint8
    assert (asked.images == IMAGES).all()
    assert asked.id == "7"
    assert asked.outputs == dict.fromkeys(("location", "score", "category", "state", "state_score"), False)


def test_numbers_as_bytes() -> None:
    values = ask(parameters={"binary_data_size": IMAGES.size})
    del values["inputs"][0]["data"]
    asked = parse(values | {"parameters": {"binary_data_output": True}}, IMAGES.tobytes())
    assert (asked.images == IMAGES).all()
    assert set(asked.outputs.values()) == {True}


def test_outputs_are_chosen() -> None:
    wanted = [{"name": "score"}, {"name": "location", "parameters": {"binary_data": True}}]
    assert parse(ask() | {"outputs": wanted}).outputs == {"score": False, "location": True}


BINARY = {"parameters": {"binary_data_size": IMAGES.size}}
CASES: dict[str, tuple[object, bytes | None, str]] = {
    "no object": ([1], None, "expected a mapping"),
    "no inputs": ({}, None, "the key `inputs` is missing"),
    "two inputs": ({"inputs": ask()["inputs"] * 2}, None, "`inputs`"),
    "no tensor": ({"inputs": [7]}, None, "`inputs.0`"),
    "unknown key": (ask() | {"output": []}, None, "unknown key `output`; did you mean `outputs`?"),
    "other name": (ask(name="images"), None, "input 'images', expected 'image'"),
    "other type": (ask(datatype="FP32"), None, "datatype 'FP32', expected 'UINT8'"),
    "other size": (ask(shape=[2, 3, 4, 2]), None, "shape [2, 3, 4, 2], expected [images, 3, 2, 4]"),
    "no image": (ask(shape=[0, 3, 2, 4], data=[]), None, "shape [0, 3, 2, 4]"),
    "no shape": (ask(shape=[]), None, "shape []"),
    "too few numbers": (ask(data=[1, 2]), None, "has shape [2], expected [2, 3, 2, 4], or flat"),
    "no numbers": (ask(data=None), None, "has shape [0]"),
    "other nesting": (ask(data=IMAGES.reshape(2, 24).tolist()), None, "has shape [2, 24]"),
    "ragged": (ask(data=[[1, 2], [3]]), None, "not a regular list"),
    "text": (ask(data=["x"] * 48), None, "other values than integers from 0 to 255"),
    "fractions": (ask(data=[0.5] * 48), None, "other values"),
    "true": (ask(data=[True] * 48), None, "other values"),
    "negative": (ask(data=[-1] * 48), None, "other values"),
    "large": (ask(data=[256] * 48), None, "other values"),
    "vast": (ask(data=[10**40] * 48), None, "other values"),
    "bytes and numbers": (ask(**BINARY), IMAGES.tobytes(), "and no `data`"),
    "too few bytes": (ask(data=None, **BINARY), bytes(47), "47 bytes follow the JSON, expected 48"),
    "bytes nobody announced": (ask(data=None), bytes(48), "`binary_data_size` is None"),
    "unknown output": (ask() | {"outputs": [{"name": "scores"}]}, None, "no output 'scores'; did you mean 'score'?"),
    "unknown parameter": (ask() | {"parameters": {"timeout": 1}}, None, "unknown key `parameters.timeout`"),
    "classification": (ask() | {"outputs": [{"name": "score", "parameters": {"classification": 2}}]}, None, "unknown"),
    "long id": (ask() | {"id": "i" * 1001}, None, "`id`"),
    "bomb": (ask(data=[[]] * 2000), None, "more lists and strings than 3 images have"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_does_not_fit_is_refused(name: str) -> None:
    values, binary, said = CASES[name]
    refused = refuse(values, binary)
    assert refused.status_code == 400
    assert said in refused.detail


def test_too_many_images() -> None:
    assert refuse(ask(shape=[4, 3, 2, 4])).status_code == 413


def test_too_many_numbers_for_json() -> None:
    refused = refuse(ask(data=[0] * 3_000_000))
    assert refused.status_code == 413
    assert "bytes of JSON, 8,000,000 are allowed: send the images as bytes" in refused.detail


@pytest.mark.parametrize(
    ("body", "length"),
    [(b"{", None), (b"", None), (b"\xff", None), (b"[" * 900, None), (b'{"id": NaN}', None), (b"{}", "3"),
     (b"{}", "-1"), (b"{}", "9" * 5000), (b"{}", "two"), (b'{"id": "a", "id": "b"}', None)],
)  # fmt: skip
def test_what_is_no_request_is_refused(body: bytes, length: str | None) -> None:
    with pytest.raises(HTTPException) as caught:
        parse_inference_request(body, length, METADATA, MOST)
    assert caught.value.status_code == 400


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=150)
@given(st.sampled_from(("", "inputs", "name", "datatype", "shape", "data", "parameters", "outputs", "id")), JSON)
def test_any_value_in_any_place_is_a_request_or_refused(place: str, value: Any) -> None:
    values: Any = ask()
    if place in values["inputs"][0]:
        values["inputs"][0][place] = value
    else:
        values = values | {place: value} if place else value
    with suppress(HTTPException):  # anything else fails the test
        assert parse(values).images.shape == IMAGES.shape


def detections(count: int) -> Detections:
    """As the model returns them."""
    scores = np.arange(count, dtype=np.float32) * np.float32(0.125)
    labels = np.ones(count, np.int64)
    return Detections(np.ones((count, 4), np.float32), scores, labels, labels, scores)


def test_images_with_fewer_detections_end_in_zeros() -> None:
    asked = InferenceRequest(IMAGES, {"score": False, "location": True, "category": True}, "7")
    answer = build_inference_response(asked, [detections(1), detections(3)], METADATA, "model", "1")
    head = json.loads(answer.body[: answer.json_length])
    assert (head["model_name"], head["model_version"], head["id"]) == ("model", "1", "7")
    assert head["parameters"] == {"scores": "uncalibrated", "temperature": 2.0}
    assert head["outputs"][0] == {
        "name": "score",
        "datatype": "FP32",
        "shape": [2, 3],
        "data": [0, 0, 0, 0, 1 / 8, 1 / 4],
    }
    assert head["outputs"][1]["shape"] == [2, 3, 4]
    assert head["outputs"][1]["parameters"] == {"binary_data_size": 96}
    assert head["outputs"][2]["datatype"] == "INT64"
    binary = answer.body[answer.json_length :]
    assert np.frombuffer(binary[:96], "<f4").reshape(2, 3, 4)[:, :, 0].tolist() == [[1, 0, 0], [1, 1, 1]]
    assert np.frombuffer(binary[96:], "<i8").tolist() == [1, 0, 0, 1, 1, 1]


def test_no_detections_are_empty_tensors() -> None:
    asked = parse(ask())
    answer = build_inference_response(asked, [detections(0), detections(0)], METADATA, "model", "1")
    assert answer.json_length is None
    shapes = {one["name"]: (one["shape"], one["data"]) for one in json.loads(answer.body)["outputs"]}
    assert shapes["location"] == ([2, 0, 4], [])
    assert shapes["category"] == ([2, 0], [])


def test_the_metadata_are_those_of_the_file(model: Path) -> None:
    session = onnxruntime.InferenceSession(model)
    types = {"tensor(uint8)": "UINT8", "tensor(float)": "FP32", "tensor(int64)": "INT64"}
    described = describe_tensors(ModelMetadata(**FACTS))
    for key, found in (("inputs", session.get_inputs()), ("outputs", session.get_outputs())):
        assert [(one["name"], one["datatype"]) for one in described[key]] == [(f.name, types[f.type]) for f in found]
        for one, file in zip(described[key], found, strict=True):
            assert all(size in (-1, of_file) for size, of_file in zip(one["shape"], file.shape, strict=True))
    without = describe_tensors(ModelMetadata(**FACTS | {"states": []}))
    assert [one["name"] for one in without["outputs"]] == ["location", "score", "category"]
