"""Opening and running ONNX files: tiny graphs that need no training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from detector.core.errors import UserError
from detector.runners.model_metadata import ModelMetadata
from detector.runners.onnx_runner import open_onnx

METADATA: dict[str, Any] = {
    "model": "tiny", "classes": ["a", "ü"], "states": [], "size": [32, 64], "fill": [1, 2, 3], "data": "hash",
    "threshold": {"a": 0.5, "ü": 1}, "temperature": 2, "code": "of", "dataset": "manifest", "precision": "fp32",
    "nms_iou": 0.5, "max_detections": 3,
}  # fmt: skip
BOXES = np.array([[[1, 2, 3, 4], [5, 6, 7, 8], [0, 0, 0, 0]]], np.float32)
SCORES, LABELS = np.array([[0.9, 0.4, 0]], np.float32), np.array([[2, 1, 0]], np.int64)


def write_model(
    path: Path, states: bool = False, metadata: dict[str, object] | None = None, batch: int | str = "batch"
) -> Path:
    """Write a graph that returns the same two detections of one image for every batch."""
    columns: dict[str, NDArray[Any]] = {"location": BOXES, "score": SCORES, "category": LABELS}
    if states:
        columns |= {"state": LABELS[:, ::-1].copy(), "state_score": SCORES / 2}
    facts = {**METADATA, "states": ["whole", "gone"][: 2 * states]} if metadata is None else metadata
    nodes = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))
        for name, value in columns.items()
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, [batch, 3, 32, 64])
    outputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in columns.items()
    ]
    graph = helper.make_graph(nodes, "tiny", [image], outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    for key, value in facts.items():
        model.metadata_props.add(key=key, value=json.dumps(value))
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("states", [False, True])
def test_padded_rows_are_dropped(tmp_path: Path, states: bool) -> None:
    metadata, runner = open_onnx(write_model(tmp_path / "model.onnx", states), 1)
    assert metadata == ModelMetadata(**(METADATA | {"states": ["whole", "gone"][: 2 * states]}))
    assert [type(value) for value in (metadata.threshold["ü"], metadata.temperature)] == [float, float]
    (detections,) = runner(np.zeros((1, 3, 32, 64), np.uint8))
    assert detections.boxes_xyxy.tolist() == BOXES[0, :2].tolist()
    assert detections.scores.tolist() == pytest.approx([0.9, 0.4])
    assert detections.labels.tolist() == [2, 1]
    assert detections.states.tolist() == ([0, 1] if states else [0, 0])
    assert detections.state_scores.tolist() == pytest.approx([0.45, 0.2] if states else [0, 0])


def test_too_few_results_for_a_batch_are_an_error(tmp_path: Path) -> None:
    _, runner = open_onnx(write_model(tmp_path / "model.onnx"), 1)
    with pytest.raises(UserError, match=r"model\.onnx.* 1 of 2 images"):
        runner(np.zeros((2, 3, 32, 64), np.uint8))


def test_a_fixed_batch_size_accepts_no_other(tmp_path: Path) -> None:
    _, runner = open_onnx(write_model(tmp_path / "model.onnx", batch=1), 1)
    assert len(runner(np.zeros((1, 3, 32, 64), np.uint8))) == 1
    with pytest.raises(UserError, match=r"model\.onnx.* batch size of 1, got 2 images"):
        runner(np.zeros((2, 3, 32, 64), np.uint8))


@pytest.mark.parametrize("provider", ["cpu", "auto"])
def test_available_providers(tmp_path: Path, provider: str) -> None:
    _, runner = open_onnx(write_model(tmp_path / "model.onnx"), 1, provider)
    assert len(runner(np.zeros((1, 3, 32, 64), np.uint8))) == 1


@pytest.mark.parametrize(
    ("provider", "message"), [("tpu", "expected auto, cuda, openvino, cpu"), ("cuda", "install onnxruntime-gpu")]
)
def test_unavailable_providers(tmp_path: Path, provider: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(UserError, match=message):
        open_onnx(write_model(tmp_path / "model.onnx"), 1, provider)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no\.onnx: no such file; `dvc repro export`"):
        open_onnx(tmp_path / "no.onnx", 1)


@pytest.mark.parametrize("content", [b"", b"no ONNX", b"\x08\x0a"])
def test_not_an_onnx_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.onnx").write_bytes(content)
    with pytest.raises(UserError, match=r"bad\.onnx: "):
        open_onnx(tmp_path / "bad.onnx", 1)


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {**METADATA, "size": [32]},
        {**METADATA, "fill": 3},
        {**METADATA, "threshold": {"a": 0.5}},
        {**METADATA, "temperature": None},
        {key: METADATA[key] for key in METADATA if key != "classes"},
    ],
)
def test_missing_or_invalid_metadata(tmp_path: Path, metadata: dict[str, object]) -> None:
    with pytest.raises(UserError, match=r"other\.onnx: .*not an ONNX file of this project.*dvc repro export"):
        open_onnx(write_model(tmp_path / "other.onnx", metadata=metadata), 1)


DECODING = {"score_threshold": 0.1, "candidates": 5, "nms_iou": 0.5, "max_detections": 3}
RAW_BOXES = np.array([[[0, 0, 10, 10], [1, 0, 10, 10], [20, 0, 30, 10]]], np.float32)
RAW_SCORES = np.array([[[0.9, 0.2], [0.8, 0.0], [0.05, 0.5]]], np.float32)
NAN_AT_LAST = np.array([[[1, 1], [1, 1], [np.nan, np.nan]]], np.float32)


def write_raw(path: Path, **columns: NDArray[Any]) -> Path:
    """Write a graph that returns these outputs of a file without NMS."""
    nodes = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(one)) for name, one in columns.items()
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, [1, 3, 32, 64])
    outputs = [helper.make_tensor_value_info(name, TensorProto.FLOAT, one.shape) for name, one in columns.items()]
    graph = helper.make_graph(nodes, "raw", [image], outputs)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    states = ["whole", "gone"] if "state_scores" in columns else []
    for key, value in (METADATA | {"states": states, "decoding": DECODING}).items():
        model.metadata_props.add(key=key, value=json.dumps(value))
    onnx.save(model, path)
    return path


def test_a_file_without_nms_is_decoded(tmp_path: Path) -> None:
    states = np.array([[[0.3, 0.7], [0.6, 0.4], [0.9, 0.1]]], np.float32)
    path = write_raw(tmp_path / "raw.onnx", boxes=RAW_BOXES, scores=RAW_SCORES, state_scores=states)
    metadata, runner = open_onnx(path, 1)
    assert metadata.decoding is not None
    found = runner(np.zeros((2, 3, 32, 64), np.uint8))
    assert len(found) == 2, "one by one: the file takes one image"
    for one in found:
        assert one.boxes_xyxy.tolist() == RAW_BOXES[0, [0, 2, 0]].tolist()
        assert one.labels.tolist() == [1, 2, 2]
        assert one.states.tolist() == [2, 1, 2]
        assert one.scores.tolist() == pytest.approx([0.9, 0.5, 0.2])
        assert one.state_scores.tolist() == pytest.approx([0.7, 0.9, 0.7])


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"boxes": RAW_BOXES}, r"output `scores` is missing"),
        (
            {"boxes": RAW_BOXES, "scores": RAW_SCORES[..., :1]},
            r"output `scores` is .*, expected tensor\(float\) \(1, None, 2\)",
        ),
        ({"boxes": RAW_BOXES[:, :2], "scores": RAW_SCORES}, r"outputs of different lengths, \[\[2, 4\], \[3, 2\]\]"),
        ({"boxes": RAW_BOXES + np.float32(np.inf), "scores": RAW_SCORES}, r"a value that is infinite or no number"),
        ({"boxes": RAW_BOXES, "scores": RAW_SCORES * NAN_AT_LAST}, r"a value that is infinite or no number"),
        (
            {"boxes": RAW_BOXES, "scores": RAW_SCORES, "state_scores": RAW_SCORES * NAN_AT_LAST},
            r"a value that is infinite or no number",
        ),
        ({"boxes": RAW_BOXES, "scores": RAW_SCORES * 2}, r"`score` that is not from 0 to 1"),
        ({"location": BOXES, "score": SCORES}, r"output `boxes` is missing"),
    ],
)
def test_outputs_that_no_file_without_nms_has(tmp_path: Path, columns: dict[str, NDArray[Any]], message: str) -> None:
    path = write_raw(tmp_path / "raw.onnx", **columns)
    with pytest.raises(UserError, match=rf"raw\.onnx.*{message}"):
        open_onnx(path, 1)[1](np.zeros((1, 3, 32, 64), np.uint8))
