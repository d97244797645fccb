"""Files without NMS: fixed shapes, and detections that equal the model's once they are decoded."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import helper
from onnx.reference import ReferenceEvaluator

from detector.core.errors import UserError
from detector.engine.detections import Detections
from detector.exporting.onnx_file import export_onnx
from detector.exporting.parity import compute_difference, count_unmatched
from detector.exporting.raw_head import OPSET, lower_opset, remove_nms
from detector.exporting.settings import TWO_STAGE_MODELS
from detector.models import MODELS
from detector.models.normalization import PixelStatistics
from detector.models.postprocess import Postprocess
from detector.models.query_architectures import ARCHITECTURES
from detector.models.state_head import StateConfig
from detector.runners.model_metadata import ModelMetadata
from detector.runners.onnx_runner import open_onnx
from detector.runners.torch_runner import build_runner
from tests.support.models import TESTED
from tests.support.synthetic_model import build_synthetic_model

SIZE = (64, 96)
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 3, *SIZE), dtype=np.uint8)
POSTPROCESS = Postprocess(0.001, max_detections=30)  # of synthetic models
STATES = ["whole", "gone"]
GUIDE = Path(__file__).parents[2] / "docs/export.md"
DATA_DEPENDENT = {"NonMaxSuppression", "NonZero", "Unique", "Compress", "If", "Loop"}


class RawFile(NamedTuple):
    """expected: the detections of the model before its NMS was removed, for each of IMAGES."""

    path: Path
    metadata: ModelMetadata
    expected: list[Detections]


def write_raw(name: str, path: Path, states: list[str]) -> RawFile:
    config = StateConfig((True, False)[: len(states)], (1.0, 1.0)[: len(states)], 0.5)
    model = build_synthetic_model(name, config, IMAGES)
    expected = build_runner(model, torch.device("cpu"))(IMAGES)
    metadata = ModelMetadata(
        model=name, classes=["a", "b"], states=states, size=SIZE, fill=(120, 120, 120), data="",
        threshold={"a": 0.5, "b": 0.5}, max_detections=30, decoding=remove_nms(model, SIZE, POSTPROCESS),
    )  # fmt: skip
    export_onnx(model, metadata, path)
    return RawFile(path, metadata, expected)


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> RawFile:
    return write_raw("simple", tmp_path_factory.mktemp("raw") / "model.onnx", STATES)


def check_detections(file: RawFile) -> None:
    metadata, runner = open_onnx(file.path, 1)
    assert metadata == file.metadata
    for ours, theirs in zip(file.expected, runner(IMAGES), strict=True):
        assert len(ours.labels) > 10
        difference = compute_difference(ours, theirs, 30, 1e-3)
        assert difference.box < 0.5
        assert difference.score < 1e-3
        assert count_unmatched(ours, theirs) == 0
        assert np.array_equal(ours.states, theirs.states)


def test_decoded_detections_match_the_model(raw: RawFile) -> None:
    check_detections(raw)
    assert raw.metadata.decoding is not None
    assert raw.metadata.decoding.nms_iou == POSTPROCESS.nms_iou
    assert raw.metadata.decoding.candidates == 600


@pytest.mark.long
@pytest.mark.parametrize("name", [name for name in TESTED if name not in TWO_STAGE_MODELS])
def test_every_one_stage_model(name: str, tmp_path: Path) -> None:
    file = write_raw(name, tmp_path / "model.onnx", [])
    check_detections(file)
    check_fixed_shapes(file.path)
    assert file.metadata.decoding is not None
    assert (file.metadata.decoding.nms_iou is None) == (name in ARCHITECTURES)


def check_fixed_shapes(path: Path) -> None:
    file = onnx.load(path)
    assert [(entry.domain, entry.version) for entry in file.opset_import] == [("", 17)]
    assert file.ir_version == 8
    assert not {node.op_type for node in file.graph.node} & DATA_DEPENDENT
    inferred = onnx.shape_inference.infer_shapes(file, strict_mode=True).graph
    values = {value.name: value for value in [*inferred.value_info, *inferred.input, *inferred.output]}
    for name in {name for node in inferred.node for name in node.output}:
        assert all(side.dim_value > 0 for side in values[name].type.tensor_type.shape.dim), name


def test_shapes_are_fixed(raw: RawFile) -> None:
    check_fixed_shapes(raw.path)
    session = onnxruntime.InferenceSession(raw.path, providers=["CPUExecutionProvider"])
    assert [one.shape for one in session.get_inputs()] == [[1, 3, *SIZE]]
    shapes = {one.name: one.shape for one in session.get_outputs()}
    assert shapes == {"boxes": [1, 126, 4], "scores": [1, 126, 2], "state_scores": [1, 126, 2]}


def test_the_decoding_in_the_docs(raw: RawFile) -> None:
    code = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(next(text for text in code if "def decode(" in text), names)
    session = onnxruntime.InferenceSession(raw.path, providers=["CPUExecutionProvider"])
    for image, expected in zip(IMAGES, raw.expected, strict=True):
        boxes, scores, states = (output[0] for output in session.run(None, {"image": image[None]}))
        found_boxes, found_scores, categories, locations = names["decode"](boxes, scores, raw.metadata.model_dump())
        columns = (found_boxes, found_scores, categories, states[locations].argmax(1) + 1, states[locations].max(1))
        difference = compute_difference(expected, Detections(*columns), 30, 1e-3)
        assert difference.box < 0.5
        assert difference.score < 1e-3
        assert difference.unmatched == 0


@pytest.mark.parametrize("name", ["simple", *[pytest.param(name, marks=pytest.mark.long) for name in TESTED][1:]])
def test_exactly_two_stage_models_are_refused(name: str) -> None:
    model = MODELS[name].build(2, StateConfig(), PixelStatistics((0,) * 3, (1,) * 3), POSTPROCESS, "none").eval()
    if name not in TWO_STAGE_MODELS:
        remove_nms(model, SIZE, POSTPROCESS)
        return
    with pytest.raises(UserError, match=r"`export\.nms` is false, and a two-stage model needs NMS"):
        remove_nms(model, SIZE, POSTPROCESS)


def test_a_lower_opset_changes_no_result() -> None:
    file = onnx.parser.parse_model(
        """<ir_version: 9, opset_import: ["" : 18]>
        parts (float[2, 6] x) => (float[2, 1] mean, float[2, 1] a, float[2, 2] b, float[2, 3] c)
        <int64[1] axes = {1}, int64[3] sizes = {1, 2, 3}> {
          mean = ReduceMean <noop_with_empty_axes = 0> (x, axes)
          a, b, c = Split <axis = 1> (x, sizes)
        }"""
    )
    file.graph.node[1].name = "split"
    lowered = lower_opset(file)
    onnx.checker.check_model(lowered, full_check=True)
    assert [entry.version for entry in lowered.opset_import] == [17]
    assert {tensor.name for tensor in lowered.graph.initializer} & {"sizes"} == set()
    x = {"x": np.random.default_rng(0).random((2, 6), dtype=np.float32)}
    outputs: list[Any] = [ReferenceEvaluator(one).run(None, x) for one in (file, lowered)]
    for expected, found in zip(*outputs, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_operators_that_onnx_cannot_lower() -> None:
    """A Pad on two axes, and a Split into parts that are not equal."""
    float_type = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        [
            helper.make_node("Relu", ["x"], ["positive"], "relu"),
            helper.make_node("Pad", ["positive", "pads", "fill"], ["padded"], "pad"),
            helper.make_node("Split", ["padded"], ["a", "b"], "split", axis=-1, num_outputs=2),
            helper.make_node("Relu", ["b"], ["c"], "last"),
        ],
        "graph",
        [helper.make_tensor_value_info("x", float_type, [1, 2, 4])],
        [
            helper.make_tensor_value_info("a", float_type, [1, 3, 3]),
            helper.make_tensor_value_info("c", float_type, [1, 3, 2]),
        ],
        [
            helper.make_tensor("pads", onnx.TensorProto.INT64, [6], [0, 0, 0, 0, 1, 1]),
            helper.make_tensor("fill", float_type, [], [7.0]),
        ],
    )
    file = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    lowered = lower_opset(file)
    onnx.checker.check_model(lowered)
    assert lowered.opset_import[0].version == OPSET
    inputs = {"x": np.arange(8, dtype=np.float32).reshape(1, 2, 4) - 3}
    expected, found = (
        onnxruntime.InferenceSession(one.SerializeToString()).run(None, inputs) for one in (file, lowered)
    )
    assert [one.tolist() for one in expected] == [one.tolist() for one in found]
    assert expected[0][0, 2].tolist() == [7, 7, 7]
