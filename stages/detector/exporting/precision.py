"""Convert an ONNX file to fp16 layers or int8 convolutions; boxes, scores and NMS always stay float32."""

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

# Modules that compute feature maps; what follows needs precision more than speed.
FEATURE_MODULES = ("backbone", "neck", "pyramid", "extra", "body.encoder_input_proj", "body.input_projection")
# Modules that no box coordinate passes through.
FP16_MODULES = (
    *FEATURE_MODULES, "body.encoder", "body.decoder_input_proj", "proposal_network.head", "box_head.layers",
    "box_head.predictor", "head", "class_head", "state_features", "states", "box_head.states",
)  # fmt: skip
# Operators that can compute in float16, with all float inputs and outputs of that type.
FP16_OPERATORS = (
    "Add", "AveragePool", "BatchNormalization", "Clip", "Concat", "Conv", "Div", "Gelu", "Gemm", "GlobalAveragePool",
    "GroupNormalization", "HardSigmoid", "HardSwish", "InstanceNormalization", "LayerNormalization", "LeakyRelu",
    "MatMul", "MaxPool", "Mul", "Relu", "Reshape", "Resize", "Sigmoid", "Sub", "Transpose", "Unsqueeze",
)  # fmt: skip
# FEATURE_MODULES, the heads except their last layers, whose outputs need precision, and RT-DETR's feature maps.
INT8_MODULES = (
    *FEATURE_MODULES, "head.class_branch", "head.box_branch", "head.classification_head.conv",
    "head.regression_head.conv", "proposal_network.head.conv", "box_head.layers", "body.encoder.lateral_convs",
    "body.encoder.fpn_blocks", "body.encoder.downsample_convs", "body.encoder.pan_blocks", "body.decoder_input_proj",
    *(f"body.decoder.layers.{layer}.encoder_attn.value_proj" for layer in range(3)),
)  # fmt: skip
# Operators that ONNX Runtime implements in 8 bits or fuses with one that it does.
INT8_OPERATORS = (
    "Add", "AveragePool", "Clip", "Concat", "Conv", "Gemm", "GlobalAveragePool", "MatMul", "MaxPool", "Mul", "Relu",
    "Resize", "Sigmoid",
)  # fmt: skip


def is_from_module(node: onnx.NodeProto, modules: tuple[str, ...]) -> bool:
    """Return whether a node comes from one of these modules, by the name that `convert_to_onnx` gave it."""
    module = node.name.partition("/")[0]
    return any(module == name or module.startswith(f"{name}.") for name in modules)


def to_fp16(file: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy with the layers of FP16_MODULES in float16, and casts where they begin and end.

    This is not done by onnxruntime.transformers.float16 (1.31): it writes the same cast twice where two float32 nodes
    read one float16 tensor, and rounds the values between float32 nodes to float16.
    """
    file = onnx.shape_inference.infer_shapes(file)
    graph = file.graph
    floats = {value.name for value in [*graph.value_info, *graph.output] if _is_float(value.type.tensor_type.elem_type)}
    weights = {tensor.name: tensor for tensor in graph.initializer if _is_float(tensor.data_type)}
    outputs = {value.name for value in graph.output}
    fp16_nodes = [
        is_from_module(node, FP16_MODULES) and node.op_type in FP16_OPERATORS and not outputs & set(node.output)
        for node in graph.node
    ]
    fp16_values = {
        name for node, is_fp16 in zip(graph.node, fp16_nodes, strict=True) if is_fp16 for name in node.output
    }
    nodes: list[onnx.NodeProto] = []
    fp16_weights: dict[str, TensorProto] = {}
    casts: dict[str, str] = {}

    def cast(name: str, to: int, suffix: str) -> str:
        if name not in casts:
            casts[name] = f"{name}/{suffix}"
            nodes.append(helper.make_node("Cast", [name], [casts[name]], f"/Cast_{len(casts)}_{suffix}", to=to))
        return casts[name]

    for node, is_fp16 in zip(graph.node, fp16_nodes, strict=True):
        for index, name in enumerate(node.input):
            if not is_fp16:
                if name in fp16_values & floats:
                    node.input[index] = cast(name, TensorProto.FLOAT, "float")
            elif node.op_type == "Resize" and index > 0:
                pass  # its scales are always float32
            elif name in weights:
                node.input[index] = f"{name}/half"
                fp16_weights[name] = numpy_helper.from_array(_cast_to_fp16(weights[name]), f"{name}/half")
            elif name in floats - fp16_values:
                node.input[index] = cast(name, TensorProto.FLOAT16, "half")
        nodes.append(node)
    return _rebuild_model(file, nodes, [*graph.initializer, *fp16_weights.values()])


def _is_float(kind: int) -> bool:
    return kind == TensorProto.FLOAT


def _cast_to_fp16(tensor: TensorProto) -> NDArray[np.float16]:
    limit = float(np.finfo(np.float16).max)
    return np.asarray(numpy_helper.to_array(tensor).clip(-limit, limit).astype(np.float16))


def _rebuild_model(file: onnx.ModelProto, nodes: list[onnx.NodeProto], weights: list[TensorProto]) -> onnx.ModelProto:
    """Return the model with these nodes, and with those of the weights that they use."""
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes, file.graph.name, file.graph.input, file.graph.output, [one for one in weights if one.name in used]
    )
    result = helper.make_model(graph, opset_imports=file.opset_import, ir_version=file.ir_version)
    result.producer_name, result.producer_version = file.producer_name, file.producer_version
    return onnx.shape_inference.infer_shapes(result)


class CalibrationReader(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime is untyped
    """Feeds the quantizer calibration images, uint8 [3, H, W], one at a time."""

    def __init__(self, name: str, images: Iterator[NDArray[np.uint8]]) -> None:
        self._name, self._images = name, images

    def get_next(self) -> dict[str, Any] | None:
        """Return the next image as a batch of one, None at the end."""
        image = next(self._images, None)
        return None if image is None else {self._name: image[None]}


def quantize_int8(file: onnx.ModelProto, images: Iterator[NDArray[np.uint8]]) -> onnx.ModelProto:
    """Return a copy with the layers of INT8_MODULES in 8 bits; weights are quantized per channel.

    Activations are unsigned: CPUs multiply unsigned by signed bytes, and a ReLU is then free. Weights have 7 bits:
    without VNNI, two products are added in 16 bits, where those of 8 bits overflow, and the file would detect something
    else.

    images: uint8 [3, H, W], for calibrating the activation ranges; from the training set, never from test.
    """
    file = replace_global_means(fold_batch_norms_into_convs(file))
    int8_nodes = [
        node.name for node in file.graph.node if is_from_module(node, INT8_MODULES) and node.op_type in INT8_OPERATORS
    ]
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), silence_root_logger():
        warnings.simplefilter("ignore")
        source, target = Path(folder) / "float.onnx", Path(folder) / "int8.onnx"
        source.write_bytes(file.SerializeToString(deterministic=True))
        quantize_static(
            source,
            target,
            CalibrationReader(file.graph.input[0].name, images),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            reduce_range=True,
            op_types_to_quantize=list(INT8_OPERATORS),
            nodes_to_quantize=int8_nodes,
            extra_options={"MatMulConstBOnly": True},  # a product of two activations has no weights
        )
        return onnx.load(target)


@contextmanager
def silence_root_logger() -> Iterator[None]:
    """Silence the quantizer, which advises optimizing the model first; that would lose the node names."""
    root = logging.getLogger()
    level = root.level
    root.setLevel(logging.ERROR)
    try:
        yield
    finally:
        root.setLevel(level)


def replace_global_means(file: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy with GlobalAveragePool, which ONNX Runtime also has in 8 bits, in place of means of whole maps."""
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


def fold_batch_norms_into_convs(file: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy with each batch norm folded into the preceding convolution, as ONNX Runtime does for floats.

    The exporter does not fold them if the convolution is shared by several maps; they would stay float32 between
    8-bit layers.
    """
    producers = {name: node for node in file.graph.node for name in node.output}
    consumers = Counter(name for node in file.graph.node for name in node.input)
    weights = {tensor.name: tensor for tensor in file.graph.initializer}
    folded: dict[str, TensorProto] = {}
    nodes: list[onnx.NodeProto] = []
    for node in file.graph.node:
        conv = producers.get(node.input[0]) if node.op_type == "BatchNormalization" else None
        if conv is None or conv.op_type != "Conv" or consumers[node.input[0]] > 1:
            nodes.append(node)
            continue
        folded_conv = onnx.NodeProto()
        folded_conv.CopyFrom(conv)
        epsilon = next((one.f for one in node.attribute if one.name == "epsilon"), 1e-5)
        scale, shift, mean, variance = (numpy_helper.to_array(weights[name]) for name in node.input[1:5])
        factor = scale / np.sqrt(variance + epsilon)
        kernel = numpy_helper.to_array(weights[conv.input[1]])
        bias = numpy_helper.to_array(weights[conv.input[2]]) if len(conv.input) > 2 else 0
        names = [f"{conv.input[1]}/{node.input[1]}/{part}" for part in ("kernel", "bias")]
        values = (kernel * factor[:, None, None, None], (bias - mean) * factor + shift)
        for name, value in zip(names, values, strict=True):
            folded[name] = numpy_helper.from_array(value.astype(np.float32), name)
        folded_conv.input[:] = [conv.input[0], *names]
        folded_conv.output[:] = node.output
        nodes[nodes.index(conv)] = folded_conv
    return _rebuild_model(file, nodes, [*file.graph.initializer, *folded.values()])
