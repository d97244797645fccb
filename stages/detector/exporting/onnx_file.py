"""Writing the ONNX file: preprocessing and NMS inside, uint8 in, fixed-size detections out."""

from __future__ import annotations

import ast
import io
import json
import logging
import re
import warnings
from contextlib import redirect_stdout
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn
from torch.onnx import OnnxExporterError

from detector.core.errors import UserError
from detector.exporting.nms import TRANSLATIONS
from detector.runners.tiled import ModelMetadata

OPSET = 20
INPUT = "image"
OUTPUTS = ("location", "score", "category")
LARGEST = 2**31  # bytes that one protobuf message may have
SCOPES = "pkg.torch.onnx.name_scopes"  # where the exporter notes the modules of a node
STATE_OUTPUTS = ("state", "state_score")  # where the model has a state head


class Deployed(nn.Module):
    """The detector with the inputs and outputs of the ONNX file."""

    def __init__(self, model: nn.Module, with_states: bool) -> None:
        super().__init__()
        self.model = model
        self.with_states = with_states

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """uint8 [B, 3, H, W] -> location [B, N, 4] (x1, y1, x2, y2 in input pixels), score, category [B, N].

        With states also state and state_score [B, N].
        """
        found = self.model(image).detections
        states = (found.states, found.state_scores) if self.with_states else ()
        return found.boxes_xyxy, found.scores, found.labels, *states


def write_onnx(model: nn.Module, facts: ModelMetadata, path: Path) -> None:
    """Export `model` in single precision and write the file, with the metadata that it needs to be used alone."""
    save_onnx(make_onnx(model, facts), facts, path)


def make_onnx(model: nn.Module, facts: ModelMetadata) -> onnx.ModelProto:
    """Export `model` (in evaluation mode, on the CPU) for any batch size; the same each time.

    A node's name begins with the module that it comes from, such as `backbone.stem.0/`; that of the model itself
    with `/`. Raises UserError when ONNX cannot hold the model.
    """
    check_size(model)
    example = torch.zeros(2, 3, *facts.size, dtype=torch.uint8)
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # the exporter warns of its own internals
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        try:
            program = torch.onnx.export(
                Deployed(model, bool(facts.states)).eval(),
                (example,),
                dynamo=True,
                opset_version=OPSET,
                input_names=[INPUT],
                output_names=[*OUTPUTS, *(STATE_OUTPUTS if facts.states else ())],
                custom_translation_table=TRANSLATIONS,
                dynamic_shapes={INPUT: {0: torch.export.Dim("batch", min=1)}},
                verbose=False,
            )
        except OnnxExporterError as error:
            raise UserError(explained(error)) from None
    assert program is not None
    file = program.model_proto
    name_nodes(file)
    without_traces(file)
    return file


def save_onnx(file: onnx.ModelProto, facts: ModelMetadata, path: Path) -> None:
    """Write a file that ONNX's checker takes, shapes inferred; the bytes are the same each time."""
    describe(file, facts)
    onnx.checker.check_model(file, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(file.SerializeToString(deterministic=True))


def check_size(model: nn.Module) -> None:
    """Raises UserError when the weights are more than one file can hold."""
    size = sum(tensor.numel() * tensor.element_size() for tensor in model.state_dict().values())
    if size >= LARGEST:
        raise UserError(
            f"the model's weights take {size / 1e9:.1f} GB, and an ONNX file holds at most {LARGEST / 1e9:.1f} GB; "
            "take a smaller `train.model`"
        )


def explained(error: OnnxExporterError) -> str:
    """What cannot be exported, and what to do."""
    causes = []
    cause: BaseException | None = error
    while cause is not None:
        causes.append(str(cause).strip())
        cause = cause.__cause__
    operators = sorted(set(re.findall(r"torch\.ops\.[\w.]+|aten[:.]+\w+", " ".join(causes))))
    what = f"no ONNX operator for {', '.join(operators)}" if operators else causes[-1].splitlines()[0]
    return (
        f"the model cannot be written as ONNX (opset {OPSET}): {what}. Replace that operator in the model's file under "
        "stages/detector/models/ by ones that ONNX has, or take another `train.model`"
    )


def name_nodes(file: onnx.ModelProto) -> None:
    """Put the module that a node comes from before its name."""
    for number, node in enumerate(file.graph.node):
        notes = {entry.key: entry.value for entry in node.metadata_props}
        scopes = ast.literal_eval(notes.get(SCOPES, "[]"))  # such as ["", "model", "model.neck", "conv2d_3"]
        module = scopes[-2].removeprefix("model").removeprefix(".") if len(scopes) > 1 else ""
        node.name = f"{module}/{node.op_type}_{number}"


def without_traces(file: onnx.ModelProto) -> None:
    """Remove what the exporter notes of this machine: source lines, paths, the build of torch."""
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
    file.producer_version = file.producer_version.partition("+")[0]  # without the build: cpu, cu132, ...


def describe(file: onnx.ModelProto, facts: ModelMetadata) -> None:
    """Write the metadata, each value as JSON."""
    del file.metadata_props[:]
    for key, value in facts._asdict().items():
        file.metadata_props.add(key=key, value=json.dumps(value, ensure_ascii=False))
