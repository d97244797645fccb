"""ONNX files as detectors: tiny graphs that need no training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from detector.core.errors import UserError
from detector.runners.onnx_runner import open_onnx
from detector.runners.tiled import ModelMetadata

FACTS = {
    "model": "tiny", "classes": ["a", "ü"], "states": [], "size": [32, 64], "fill": [1, 2, 3], "data": "hash",
    "threshold": {"a": 0.5, "ü": 1}, "temperature": 2, "code": "of", "dataset": "manifest", "precision": "fp32",
    "nms_iou": 0.5, "max_detections": 3,
}  # fmt: skip
BOXES = np.array([[[1, 2, 3, 4], [5, 6, 7, 8], [0, 0, 0, 0]]], np.float32)
SCORES, LABELS = np.array([[0.9, 0.4, 0]], np.float32), np.array([[2, 1, 0]], np.int64)


def write(
    path: Path, states: bool = False, metadata: dict[str, object] | None = None, batch: int | str = "batch"
) -> Path:
    """A graph that answers each batch with the same two detections for one image."""
    columns = {"location": BOXES, "score": SCORES, "category": LABELS}
    if states:
        columns |= {"state": LABELS[:, ::-1].copy(), "state_score": SCORES / 2}
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
    for key, value in (FACTS if metadata is None else metadata).items():
        model.metadata_props.add(key=key, value=json.dumps(value))
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("states", [False, True])
def test_it_answers_without_the_padding(tmp_path: Path, states: bool) -> None:
    facts, runner = open_onnx(write(tmp_path / "model.onnx", states), 1)
    assert facts == ModelMetadata(**{**FACTS, "size": (32, 64), "fill": (1, 2, 3)})
    assert [type(value) for value in (facts.threshold["ü"], facts.temperature)] == [float, float]
    (found,) = runner(np.zeros((1, 3, 32, 64), np.uint8))
    assert found.boxes_xyxy.tolist() == BOXES[0, :2].tolist()
    assert found.scores.tolist() == pytest.approx([0.9, 0.4])
    assert found.labels.tolist() == [2, 1]
    assert found.states.tolist() == ([0, 1] if states else [0, 0])
    assert found.state_scores.tolist() == pytest.approx([0.45, 0.2] if states else [0, 0])


def test_a_file_that_answers_fewer_images_than_it_was_given(tmp_path: Path) -> None:
    _, runner = open_onnx(write(tmp_path / "model.onnx"), 1)
    with pytest.raises(UserError, match="answered 1 images of a batch of 2"):
        runner(np.zeros((2, 3, 32, 64), np.uint8))


def test_a_file_with_a_fixed_batch_refuses_others(tmp_path: Path) -> None:
    _, runner = open_onnx(write(tmp_path / "model.onnx", batch=1), 1)
    assert len(runner(np.zeros((1, 3, 32, 64), np.uint8))) == 1
    with pytest.raises(UserError, match=r"takes batches of 1 only, and was given 2 images"):
        runner(np.zeros((2, 3, 32, 64), np.uint8))


@pytest.mark.parametrize("provider", ["cpu", "auto"])
def test_what_computes_here(tmp_path: Path, provider: str) -> None:
    _, runner = open_onnx(write(tmp_path / "model.onnx"), 1, provider)
    assert len(runner(np.zeros((1, 3, 32, 64), np.uint8))) == 1


@pytest.mark.parametrize(
    ("provider", "message"), [("tpu", "expected auto, cuda, openvino, cpu"), ("cuda", "install onnxruntime-gpu")]
)
def test_what_does_not(tmp_path: Path, provider: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(UserError, match=message):
        open_onnx(write(tmp_path / "model.onnx"), 1, provider)


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no\.onnx: no such file; `dvc repro export`"):
        open_onnx(tmp_path / "no.onnx", 1)


@pytest.mark.parametrize("content", [b"", b"no ONNX", b"\x08\x0a"])
def test_a_file_that_is_no_onnx(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bad.onnx").write_bytes(content)
    with pytest.raises(UserError, match=r"bad\.onnx: "):
        open_onnx(tmp_path / "bad.onnx", 1)


@pytest.mark.parametrize(
    "metadata",
    [
        {},
        {**FACTS, "size": [32]},
        {**FACTS, "fill": 3},
        {**FACTS, "threshold": {"a": 0.5}},
        {**FACTS, "temperature": None},
        {key: FACTS[key] for key in FACTS if key != "classes"},
    ],
)
def test_a_file_of_another_project(tmp_path: Path, metadata: dict[str, object]) -> None:
    with pytest.raises(
        UserError, match=r"other\.onnx: no ONNX file of this project.* lack or garble .*dvc repro export"
    ):
        open_onnx(write(tmp_path / "other.onnx", metadata=metadata), 1)
