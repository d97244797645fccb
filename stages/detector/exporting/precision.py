"""Smaller and faster files: layers in half precision, or convolutions in 8 bits; boxes and NMS always in float32."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

# Modules that make maps of features: what follows needs exact numbers more than it needs time.
BODY = ("backbone", "neck", "pyramid", "extra", "body.encoder_input_proj", "body.input_projection")
# Modules of layers without geometry: no coordinate passes through them.
LAYERS = (
    *BODY, "body.encoder", "body.decoder_input_proj", "proposal_network.head", "box_head.layers", "box_head.predictor",
    "head", "class_head", "state_features", "states", "box_head.states",
)  # fmt: skip
# Operators whose floats are all of one type, which may be half.
HALF_OPERATORS = (
    "Add", "AveragePool", "BatchNormalization", "Clip", "Concat", "Conv", "Div", "Gelu", "Gemm", "GlobalAveragePool",
    "GroupNormalization", "HardSigmoid", "HardSwish", "InstanceNormalization", "LayerNormalization", "LeakyRelu",
    "MatMul", "MaxPool", "Mul", "Relu", "Reshape", "Resize", "Sigmoid", "Sub", "Transpose", "Unsqueeze",
)  # fmt: skip
# In 8 bits, beside BODY: what heads compute before their last layer, whose outputs want to be exact; RT-DETR's maps.
SMALL = (
    *BODY, "head.class_branch", "head.box_branch", "head.classification_head.conv", "head.regression_head.conv",
    "proposal_network.head.conv", "box_head.layers", "body.encoder.lateral_convs", "body.encoder.fpn_blocks",
    "body.encoder.downsample_convs", "body.encoder.pan_blocks", "body.decoder_input_proj",
    *(f"body.decoder.layers.{layer}.encoder_attn.value_proj" for layer in range(3)),
)  # fmt: skip
# Operators that ONNX Runtime has in 8 bits, or that it fuses with such a one.
SMALL_OPERATORS = (
    "Add", "AveragePool", "Clip", "Concat", "Conv", "Gemm", "GlobalAveragePool", "MatMul", "MaxPool", "Mul", "Relu",
    "Resize", "Sigmoid",
)  # fmt: skip


def is_in(node: onnx.NodeProto, modules: tuple[str, ...]) -> bool:
    """Whether a node comes from one of these modules, by the name that `make_onnx` gave it."""
    module = node.name.partition("/")[0]
    return any(module == name or module.startswith(f"{name}.") for name in modules)


def in_half(file: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that holds and computes the layers of LAYERS in float16, with casts where they begin and end."""
    file = onnx.shape_inference.infer_shapes(file)
    graph = file.graph
    floats = {value.name for value in [*graph.value_info, *graph.output] if _is_float(value.type.tensor_type.elem_type)}
    weights = {tensor.name: tensor for tensor in graph.initializer if _is_float(tensor.data_type)}
    outputs = {value.name for value in graph.output}
    half = [is_in(node, LAYERS) and node.op_type in HALF_OPERATORS and not outputs & set(node.output)
            for node in graph.node]  # fmt: skip
    made = {name for node, is_half in zip(graph.node, half, strict=True) if is_half for name in node.output}
    nodes: list[onnx.NodeProto] = []
    halves: dict[str, TensorProto] = {}
    casts: dict[str, str] = {}

    def cast(name: str, to: int, suffix: str) -> str:
        if name not in casts:
            casts[name] = f"{name}/{suffix}"
            nodes.append(helper.make_node("Cast", [name], [casts[name]], f"/Cast_{len(casts)}_{suffix}", to=to))
        return casts[name]

    for node, is_half in zip(graph.node, half, strict=True):
        for place, name in enumerate(node.input):
            if not is_half:
                if name in made & floats:
                    node.input[place] = cast(name, TensorProto.FLOAT, "float")
            elif node.op_type == "Resize" and place > 0:
                pass  # its scales are always float32
            elif name in weights:
                node.input[place] = f"{name}/half"
                halves[name] = numpy_helper.from_array(_to_half(weights[name]), f"{name}/half")
            elif name in floats - made:
                node.input[place] = cast(name, TensorProto.FLOAT16, "half")
        nodes.append(node)
    return _with(file, nodes, [*graph.initializer, *halves.values()])


def _is_float(kind: int) -> bool:
    return kind == TensorProto.FLOAT


def _to_half(tensor: TensorProto) -> NDArray[np.float16]:
    limit = float(np.finfo(np.float16).max)
    return np.asarray(numpy_helper.to_array(tensor).clip(-limit, limit).astype(np.float16))


def _with(file: onnx.ModelProto, nodes: list[onnx.NodeProto], weights: list[TensorProto]) -> onnx.ModelProto:
    """The file with these nodes and those of the weights that they use."""
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes, file.graph.name, file.graph.input, file.graph.output, [one for one in weights if one.name in used]
    )
    result = helper.make_model(graph, opset_imports=file.opset_import, ir_version=file.ir_version)
    result.producer_name, result.producer_version = file.producer_name, file.producer_version
    return onnx.shape_inference.infer_shapes(result)


class Calibration(CalibrationDataReader):
    """Images uint8 [N, 3, H, W], given one after another."""

    def __init__(self, name: str, images: Iterator[NDArray[np.uint8]]) -> None:
        self._name, self._images = name, images

    def get_next(self) -> dict[str, Any] | None:
        """The next image as a batch of one."""
        image = next(self._images, None)
        return None if image is None else {self._name: image[None]}


def in_8_bits(file: onnx.ModelProto, images: Iterator[NDArray[np.uint8]]) -> onnx.ModelProto:
    """A copy whose layers in SMALL compute in 8 bits, weights channel by channel.

    Activations are unsigned: processors multiply unsigned by signed bytes (VNNI), and a ReLU costs nothing then.

    images: uint8 [3, H, W], on which the ranges of the activations are measured: of the training set, never of test.
    """
    file = with_global_pools(without_batch_norms(file))
    chosen = [node.name for node in file.graph.node if is_in(node, SMALL) and node.op_type in SMALL_OPERATORS]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), without_advice():
        warnings.simplefilter("ignore")
        source, target = Path(folder) / "float.onnx", Path(folder) / "small.onnx"
        source.write_bytes(file.SerializeToString(deterministic=True))
        quantize_static(
            source,
            target,
            Calibration(file.graph.input[0].name, images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=list(SMALL_OPERATORS),
            nodes_to_quantize=chosen,
            extra_options={"MatMulConstBOnly": True},  # a product of two activations has no weights
        )
        return onnx.load(target)


@contextmanager
def without_advice() -> Iterator[None]:
    """The quantizer, which logs to the root, advises to optimize first; that would lose the nodes' names."""
    root = logging.getLogger()
    before = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(before)


def with_global_pools(file: onnx.ModelProto) -> onnx.ModelProto:
    """A copy that takes the mean of a whole map by the operator which ONNX Runtime has in 8 bits too."""
    copy = onnx.ModelProto()
    copy.CopyFrom(file)
    weights = {tensor.name: tensor for tensor in copy.graph.initializer}
    for node in copy.graph.node:
        if node.op_type != "ReduceMean" or len(node.input) < 2 or node.input[1] not in weights:
            continue
        axes = numpy_helper.to_array(weights[node.input[1]]).tolist()
        kept = all(one.i for one in node.attribute if one.name == "keepdims")
        if sorted(axes) in ([2, 3], [-2, -1]) and kept:
            node.op_type = "GlobalAveragePool"
            del node.input[1:], node.attribute[:]
    return copy


def without_batch_norms(file: onnx.ModelProto) -> onnx.ModelProto:
    """A copy with each batch norm folded into the convolution before it, as ONNX Runtime does with floats.

    The exporter leaves those whose convolution serves several maps; between 8-bit layers they would stay floats.
    """
    makers = {name: node for node in file.graph.node for name in node.output}
    readers = Counter(name for node in file.graph.node for name in node.input)
    weights = {tensor.name: tensor for tensor in file.graph.initializer}
    folded: dict[str, TensorProto] = {}
    nodes: list[onnx.NodeProto] = []
    for node in file.graph.node:
        before = makers.get(node.input[0]) if node.op_type == "BatchNormalization" else None
        if before is None or before.op_type != "Conv" or readers[node.input[0]] > 1:
            nodes.append(node)
            continue
        kept = onnx.NodeProto()
        kept.CopyFrom(before)
        epsilon = next((one.f for one in node.attribute if one.name == "epsilon"), 1e-5)
        scale, shift, mean, variance = (numpy_helper.to_array(weights[name]) for name in node.input[1:5])
        factor = scale / np.sqrt(variance + epsilon)
        kernel = numpy_helper.to_array(weights[before.input[1]])
        bias = numpy_helper.to_array(weights[before.input[2]]) if len(before.input) > 2 else 0
        names = [f"{before.input[1]}/{node.input[1]}/{part}" for part in ("kernel", "bias")]
        values = (kernel * factor[:, None, None, None], (bias - mean) * factor + shift)
        for name, value in zip(names, values, strict=True):
            folded[name] = numpy_helper.from_array(value.astype(np.float32), name)
        kept.input[:] = [before.input[0], *names]
        kept.output[:] = node.output
        nodes[nodes.index(before)] = kept
    return _with(file, nodes, [*file.graph.initializer, *folded.values()])
