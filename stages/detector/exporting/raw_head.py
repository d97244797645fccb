"""A file without NMS: the boxes and scores of all locations, in fixed shapes that every runtime supports."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper, version_converter
from torch import Tensor, nn

from detector.core.errors import UserError
from detector.models.postprocess import CANDIDATES_PER_DETECTION, Postprocess
from detector.runners.model_metadata import RawDecoding

OPSET, IR_VERSION = 17, 8  # what TensorRT 8.6 and the compilers of edge devices read


class RawDetections(NamedTuple):
    """boxes_xyxy [B, L, 4] in pixels, scores [B, L, C], state_scores [B, L, S] or None, all but the padding 0..1.

    needs_nms: whether an object may be found at several locations.
    """

    boxes_xyxy: Tensor
    scores: Tensor
    state_scores: Tensor | None
    needs_nms: bool


class RawPostprocess:
    """Takes the place of a model's `Postprocess` and selects nothing."""

    def __call__(self, boxes_xyxy: Tensor, class_scores: Tensor, state_logits: Tensor | None = None) -> RawDetections:
        """Takes and returns the tensors of `Postprocess.__call__`."""
        return RawDetections(boxes_xyxy, class_scores, None if state_logits is None else state_logits.softmax(-1), True)

    def select_without_nms(
        self, boxes_xyxy: Tensor, class_scores: Tensor, state_logits: Tensor | None = None
    ) -> RawDetections:
        """Takes and returns the tensors of `Postprocess.select_without_nms`."""
        return self(boxes_xyxy, class_scores, state_logits)._replace(needs_nms=False)


def remove_nms(model: nn.Module, size: tuple[int, int], postprocess: Postprocess) -> RawDecoding:
    """Make the model return RawDetections, and return how they become its detections; size: (H, W) of the input.

    Raises UserError for a two-stage model, which has NMS between its stages.
    """
    setattr(model, "postprocess", RawPostprocess())  # noqa: B010  nn.Module declares no such attribute
    with torch.no_grad():
        detections = model(torch.zeros(1, 3, *size, dtype=torch.uint8)).detections
    if detections.boxes_xyxy.dim() == 4:
        raise UserError("`export.nms` is false, and a two-stage model needs NMS for its proposals, too")
    most = postprocess.max_detections
    return RawDecoding(
        score_threshold=postprocess.score_threshold,
        candidates=CANDIDATES_PER_DETECTION * most if detections.needs_nms else most,
        nms_iou=postprocess.nms_iou if detections.needs_nms else None,
        max_detections=most,
    )


def lower_opset(file: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy for OPSET of a file with opset 18."""
    copy = onnx.ModelProto()
    copy.CopyFrom(file)
    sizes = {tensor.name: numpy_helper.to_array(tensor) for tensor in copy.graph.initializer}
    shapes = {
        value.name: [one.dim_value for one in value.type.tensor_type.shape.dim]
        for value in onnx.shape_inference.infer_shapes(copy).graph.value_info
    }
    nodes: list[onnx.NodeProto] = []
    for node in copy.graph.node:
        kept = [one for one in node.attribute if one.name != "noop_with_empty_axes" or one.i]  # its default
        del node.attribute[:]
        node.attribute.extend(kept)
        # onnx cannot convert Split and Pad.
        if node.op_type == "Split":
            parts = sizes[node.input[1]].tolist() if len(node.input) > 1 else _equal_parts(node, shapes[node.input[0]])
            nodes += _split_to_slices(node, parts, copy)
        elif node.op_type == "Pad":
            nodes += _pad_to_concats(node, shapes[node.input[0]], sizes, copy)
        else:
            nodes.append(node)
    del copy.graph.node[:]
    copy.graph.node.extend(nodes)
    used = {name for node in nodes for name in node.input}
    weights = [tensor for tensor in copy.graph.initializer if tensor.name in used]
    del copy.graph.initializer[:]
    copy.graph.initializer.extend(weights)
    lowered = version_converter.convert_version(copy, OPSET)
    lowered.ir_version = IR_VERSION
    return lowered


def _pad_to_concats(
    node: onnx.NodeProto, shape: list[int], values: dict[str, NDArray[Any]], file: onnx.ModelProto
) -> list[onnx.NodeProto]:
    """One Concat per padded axis of a Pad with a constant; what is added becomes a constant of the file.

    shape: of its input. values: of the constants, by name.
    """
    inputs = [*node.input, "", "", ""][:4]
    axes = values[inputs[3]].tolist() if inputs[3] else list(range(len(shape)))
    pads = values[inputs[1]].reshape(2, len(axes)).T.tolist()  # before and after each axis
    fill = values[inputs[2]].item() if inputs[2] else 0.0
    shape, current, concats = list(shape), inputs[0], []
    for axis, added in zip(axes, pads, strict=True):
        names = [f"{node.name}_{axis}_{side}" if count else "" for side, count in enumerate(added)]
        for name, count in zip(names, added, strict=True):
            if name:
                block = np.full([*shape[:axis], count, *shape[axis + 1 :]], fill, np.float32)
                file.graph.initializer.append(numpy_helper.from_array(block, name))
        if any(added):
            parts = [part for part in (names[0], current, names[1]) if part]
            shape[axis] += sum(added)
            current = f"{node.name}_{axis}"
            concats.append(helper.make_node("Concat", parts, [current], current, axis=axis))
    return [*concats, helper.make_node("Identity", [current], [node.output[0]], node.name)]


def _equal_parts(node: onnx.NodeProto, shape: list[int]) -> list[int]:
    """The sizes of a Split without given ones: equal, but for a smaller last one. shape: of its input."""
    length, parts = shape[next(one.i for one in node.attribute if one.name == "axis")], len(node.output)
    size = -(-length // parts)
    return [size] * (parts - 1) + [length - size * (parts - 1)]


def _split_to_slices(node: onnx.NodeProto, sizes: list[int], file: onnx.ModelProto) -> list[onnx.NodeProto]:
    """One Slice per output of a Split; its bounds become constants of the file."""
    axis = next(one.i for one in node.attribute if one.name == "axis")
    slices, start = [], 0
    for number, (output, size) in enumerate(zip(node.output, sizes, strict=True)):
        bounds = [f"{node.name}_{number}/{name}" for name in ("start", "end", "axis")]
        for name, value in zip(bounds, (start, start + size, axis), strict=True):
            file.graph.initializer.append(helper.make_tensor(name, onnx.TensorProto.INT64, [1], [value]))
        slices.append(helper.make_node("Slice", [node.input[0], *bounds], [output], f"{node.name}_{number}"))
        start += size
    return slices
