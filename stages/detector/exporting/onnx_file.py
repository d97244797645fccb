"""Write the ONNX file: uint8 in, fixed-size detections out, with normalization and NMS inside, or without NMS."""

from __future__ import annotations

import ast
import copy
import io
import json
import logging
import re
import warnings
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.onnx import OnnxExporterError

from detector.core.errors import UserError
from detector.core.output_files import write_bytes
from detector.exporting.description import INPUT, describe_file, describe_outputs
from detector.exporting.nms import TRANSLATIONS
from detector.exporting.raw_head import RawDetections, lower_opset
from detector.runners.model_metadata import ModelMetadata

OPSET, IR_VERSION = 20, 9
RAW_EXPORT_OPSET = 18  # the lowest one of torch's exporter; `lower_opset` goes on from there
MAX_FILE_BYTES = 2**31  # the maximum size of a protobuf message
SCOPES_KEY = "pkg.torch.onnx.name_scopes"  # where the exporter stores the module path of a node


class ExportWrapper(nn.Module):
    """The detector with the inputs and outputs of the ONNX file."""

    def __init__(self, model: nn.Module, with_states: bool) -> None:
        super().__init__()
        self.model = model
        self.with_states = with_states

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """uint8 [B, 3, H, W] -> location [B, N, 4] (x1, y1, x2, y2 in input pixels), score, category [B, N].

        With a state head also state and state_score [B, N]. After `remove_nms` boxes [1, L, 4], scores [1, L, C] and
        state_scores [1, L, S].
        """
        detections = self.model(image).detections
        if isinstance(detections, RawDetections):
            return tuple(part for part in detections[:3] if part is not None)
        states = (detections.states, detections.state_scores) if self.with_states else ()
        return detections.boxes_xyxy, detections.scores, detections.labels, *states


def export_onnx(model: nn.Module, metadata: ModelMetadata, path: Path) -> None:
    """Export `model` in single precision and write the file, with all the metadata needed to use it on its own."""
    save_onnx(convert_to_onnx(model, metadata), metadata, path)


def convert_to_onnx(model: nn.Module, metadata: ModelMetadata) -> onnx.ModelProto:
    """Export `model` (in evaluation mode, on the CPU) for any batch size, or one image after `remove_nms`.

    The result is deterministic. A node's name starts with the module that it comes from, such as `backbone.stem.0/`;
    nodes of the model itself start with `/`. Raises UserError when the model cannot be represented in ONNX.
    """
    check_weight_size(model)
    raw = metadata.decoding is not None
    example = torch.zeros(1 if raw else 2, 3, *metadata.size, dtype=torch.uint8)
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # the exporter warns about its own internals
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        try:
            program = torch.onnx.export(
                ExportWrapper(copy_without_inplace(model), bool(metadata.states)).eval(),
                (example,),
                dynamo=True,
                opset_version=RAW_EXPORT_OPSET if raw else OPSET,
                input_names=[INPUT],
                output_names=list(describe_outputs(metadata)),
                custom_translation_table=TRANSLATIONS,
                dynamic_shapes=None if raw else {INPUT: {0: torch.export.Dim("batch", min=1)}},
                verbose=False,
            )
        except OnnxExporterError as error:
            raise UserError(explain_export_error(error)) from None
    assert program is not None
    file = program.model_proto
    if not raw and not file.graph.input[0].type.tensor_type.shape.dim[0].dim_param:
        # torch falls back to the batch size of the example without a word.
        raise UserError(
            "the model cannot be exported to ONNX for any batch size: its code fixes the number of images; use its "
            "tensors' shapes instead of `len` and `int`, or choose another `train.model`"
        )
    fold_unsqueezed_weights(file)
    name_nodes(file)
    remove_build_traces(file)
    file.ir_version = IR_VERSION
    return lower_opset(file) if raw else file


def copy_without_inplace(model: nn.Module) -> nn.Module:
    """A copy whose activations do not overwrite their inputs, for the same outputs.

    torch's exporter takes a third longer to trace those that do.
    """
    result = copy.deepcopy(model)
    for module in result.modules():
        if getattr(module, "inplace", False) is True:
            module.inplace = False  # type: ignore[assignment]
    return result


def save_onnx(file: onnx.ModelProto, metadata: ModelMetadata, path: Path) -> None:
    """Check the file, including its inferred shapes, and write it; the bytes are deterministic."""
    write_description(file, describe_file(file, metadata))
    onnx.checker.check_model(file, full_check=True)
    write_bytes(path, file.SerializeToString(deterministic=True))


def check_weight_size(model: nn.Module) -> None:
    """Raise UserError if the weights exceed the maximum size of a file."""
    size = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    if size >= MAX_FILE_BYTES:
        raise UserError(
            f"the model's weights take {size / 1e9:.1f} GB; an ONNX file holds at most {MAX_FILE_BYTES / 1e9:.1f} GB. "
            "Choose a smaller `train.model`"
        )


def explain_export_error(error: OnnxExporterError) -> str:
    """Describe what cannot be exported and what to do about it."""
    causes = []
    cause: BaseException | None = error
    while cause is not None:
        causes.append(str(cause).strip())
        cause = cause.__cause__
    operators = sorted(set(re.findall(r"torch\.ops\.[\w.]+|aten[:.]+\w+", " ".join(causes))))
    reason = f"no ONNX operator for {', '.join(operators)}" if operators else causes[-1].splitlines()[0]
    return (
        f"the model cannot be exported to ONNX (opset {OPSET}): {reason}. In the model's file under "
        "stages/detector/models/, replace the operator with ones that ONNX has, or choose another `train.model`"
    )


def fold_unsqueezed_weights(file: onnx.ModelProto) -> None:
    """Replace each Unsqueeze of a weight by a weight of that shape: some runtimes take only constants as kernels.

    The exporter itself folds small ones alone.
    """
    graph = file.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for node in [one for one in graph.node if one.op_type == "Unsqueeze" and {*one.input} <= {*weights}]:
        value, axes = (numpy_helper.to_array(weights[name]) for name in node.input)
        graph.initializer.append(numpy_helper.from_array(np.expand_dims(value, tuple(axes)), node.output[0]))
        graph.node.remove(node)
    used = {name for node in graph.node for name in node.input}
    for tensor in [one for one in graph.initializer if one.name not in used]:
        graph.initializer.remove(tensor)


def name_nodes(file: onnx.ModelProto) -> None:
    """Prefix each node's name with the module that it comes from."""
    for number, node in enumerate(file.graph.node):
        notes = {entry.key: entry.value for entry in node.metadata_props}
        scopes = ast.literal_eval(notes.get(SCOPES_KEY, "[]"))  # such as ["", "model", "model.neck", "conv2d_3"]
        module = scopes[-2].removeprefix("model").removeprefix(".") if len(scopes) > 1 else ""
        node.name = f"{module}/{node.op_type}_{number}"


def remove_build_traces(file: onnx.ModelProto) -> None:
    """Remove what the exporter records about this machine: source lines, paths and the torch build."""
    graphs = [file.graph, *file.functions]
    for graph in graphs:
        del graph.metadata_props[:]
        for node in graph.node:
            del node.metadata_props[:]
            node.doc_string = ""
        for value in [*getattr(graph, "value_info", []), *getattr(graph, "initializer", [])]:
            del value.metadata_props[:]
    for value in [*file.graph.input, *file.graph.output]:
        del value.metadata_props[:]
    file.graph.doc_string = ""
    file.producer_version = file.producer_version.partition("+")[0]  # drop the build: cpu, cu132, ...


def write_description(file: onnx.ModelProto, description: dict[str, Any]) -> None:
    """Write the metadata, each value as JSON, and the doc strings of inputs and outputs."""
    del file.metadata_props[:]
    for key, value in description.items():
        file.metadata_props.add(key=key, value=json.dumps(value, ensure_ascii=False))
    meanings = description["inputs"] | description["outputs"]
    for one in [*file.graph.input, *file.graph.output]:
        one.doc_string = meanings[one.name]["meaning"]
