"""Files in fp16 and int8: smaller, deterministic, and close to the fp32 file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator

from detector.engine.detections import Detections
from detector.exporting.onnx_file import convert_to_onnx, save_onnx
from detector.exporting.precision import (
    FEATURE_MODULES,
    INT8_MODULES,
    is_from_module,
    quantize_int8,
    replace_global_means,
    to_fp16,
)
from detector.models.state_head import StateConfig
from detector.runners.model_metadata import ModelMetadata
from detector.runners.onnx_runner import open_onnx
from tests.support.synthetic_model import build_synthetic_model

SIZE = (64, 96)
IMAGES = np.random.default_rng(0).integers(0, 256, (4, 3, *SIZE), dtype=np.uint8)
METADATA = ModelMetadata(
    model="simple",
    classes=["a", "b"],
    states=["whole", "gone"],
    size=SIZE,
    fill=(1, 2, 3),
    data="",
    threshold={"a": 0.5, "b": 0.5},
    max_detections=30,
)
CONVERTERS: dict[str, Callable[[onnx.ModelProto], onnx.ModelProto]] = {
    "fp16": to_fp16,
    "int8": lambda file: quantize_int8(file, iter(IMAGES)),
}


@pytest.fixture(scope="module")
def file() -> onnx.ModelProto:
    return convert_to_onnx(
        build_synthetic_model("simple", StateConfig((True, False), (1.0, 1.0), 0.5), IMAGES), METADATA
    )


def run_file(file: onnx.ModelProto, path: Path) -> list[Detections]:
    save_onnx(file, METADATA, path)
    return open_onnx(path, 1)[1](IMAGES)


@pytest.mark.parametrize(("precision", "size", "score"), [("fp16", 0.6, 0.02), ("int8", 0.5, 0.2)])
def test_smaller_and_close(file: onnx.ModelProto, precision: str, size: float, score: float, tmp_path: Path) -> None:
    before = file.SerializeToString(deterministic=True)
    expected = run_file(file, tmp_path / "fp32.onnx")
    for name in ("one", "two"):
        found = run_file(CONVERTERS[precision](file), tmp_path / f"{name}.onnx")
    assert (tmp_path / "one.onnx").read_bytes() == (tmp_path / "two.onnx").read_bytes()
    assert (tmp_path / "one.onnx").stat().st_size < size * (tmp_path / "fp32.onnx").stat().st_size
    for ours, theirs in zip(expected, found, strict=True):
        assert np.abs(ours.scores[:10] - theirs.scores[:10]).max() < score
        assert not np.array_equal(ours.scores, theirs.scores)
        assert theirs.boxes_xyxy.dtype == np.float32
    onnx.checker.check_model(CONVERTERS[precision](file), full_check=True)
    assert str(tmp_path).encode() not in (tmp_path / "one.onnx").read_bytes()
    file.ClearField("metadata_props")
    for value in [*file.graph.input, *file.graph.output]:
        value.ClearField("doc_string")
    assert file.SerializeToString(deterministic=True) == before, "the fp32 file must not be modified"


def test_box_computations_stay_float32(file: onnx.ModelProto) -> None:
    """All inputs and outputs of nodes that process boxes are float32."""
    half = onnx.shape_inference.infer_shapes(to_fp16(file))
    kinds = {value.name: value.type.tensor_type.elem_type for value in [*half.graph.value_info, *half.graph.output]}
    kinds |= {tensor.name: tensor.data_type for tensor in half.graph.initializer}
    own = [node for node in half.graph.node if node.name.startswith("/") and node.op_type != "Cast"]
    assert len(own) > 20
    for node in own:
        assert TensorProto.FLOAT16 not in {kinds.get(name) for name in [*node.input, *node.output]}, node.name
    convolutions = [node for node in half.graph.node if node.op_type == "Conv"]
    assert {kinds[node.input[1]] for node in convolutions} == {TensorProto.FLOAT16}


def test_all_but_the_last_layers_are_int8(file: onnx.ModelProto) -> None:
    small = CONVERTERS["int8"](file)
    made_by = {name: node for node in small.graph.node for name in node.output}
    convolutions = [node for node in small.graph.node if node.op_type == "Conv"]
    assert {is_from_module(node, INT8_MODULES) for node in convolutions} == {True, False}
    for node in convolutions:
        takes = made_by[node.input[1]].op_type if node.input[1] in made_by else "float"
        assert takes == ("DequantizeLinear" if is_from_module(node, INT8_MODULES) else "float"), node.name
    weights = {tensor.name: tensor for tensor in small.graph.initializer}
    first = next(node for node in convolutions if is_from_module(node, FEATURE_MODULES))
    scales = weights[made_by[first.input[1]].input[1]]
    assert len(scales.dims) == 1
    assert scales.dims[0] > 1, "one scale per channel"


def test_sums_of_two_products_fit_into_16_bits(file: onnx.ModelProto) -> None:
    """Without VNNI, CPUs add two products of an unsigned and a signed byte with saturation."""
    weights = {tensor.name: tensor for tensor in CONVERTERS["int8"](file).graph.initializer}
    kernels = [numpy_helper.to_array(one) for one in weights.values() if one.data_type == TensorProto.INT8 and one.dims]
    most = max(int(np.abs(kernel.astype(int)).max()) for kernel in kernels)
    assert most > 32
    assert 2 * 255 * most < 2**15


@pytest.mark.parametrize(
    ("axes", "attributes", "operator"),
    [
        ("{2, 3}", "", "GlobalAveragePool"),
        ("{-1, -2}", "<keepdims = 1>", "GlobalAveragePool"),
        ("{2, 3}", "<keepdims = 0>", "ReduceMean"),
        ("{3}", "", "ReduceMean"),
        ("{1, 2, 3}", "", "ReduceMean"),
    ],
)
def test_means_of_whole_maps_become_global_pools(axes: str, attributes: str, operator: str) -> None:
    count = axes.count(",") + 1
    before = onnx.parser.parse_model(
        f"""<ir_version: 10, opset_import: ["" : 20]>
        means (float[2, 3, 4, 5] x) => (float[] y) <int64[{count}] axes = {axes}> {{
          y = ReduceMean {attributes} (x, axes)
        }}"""
    )
    after = replace_global_means(before)
    assert [node.op_type for node in after.graph.node] == [operator]
    x = {"x": np.random.default_rng(0).random((2, 3, 4, 5), dtype=np.float32)}
    outputs: list[Any] = [ReferenceEvaluator(one).run(None, x) for one in (before, after)]
    (expected,), (found,) = outputs
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "modules", "expected"),
    [
        ("backbone.stem/Conv_3", ("backbone",), True),
        ("backbone/Add_3", ("backbone",), True),
        ("backbones/Add_3", ("backbone",), False),
        ("box_head/Add_3", ("box_head.layers",), False),
        ("/Add_3", FEATURE_MODULES, False),
    ],
)
def test_nodes_are_matched_by_module(name: str, modules: tuple[str, ...], expected: bool) -> None:
    assert is_from_module(onnx.NodeProto(name=name), modules) is expected
