"""Writing the ONNX file: preprocessing and NMS inside, uint8 in, fixed-size detections out."""

from __future__ import annotations

import io
import json
import logging
import warnings
from contextlib import redirect_stdout
from pathlib import Path

import onnx
import torch
from torch import Tensor, nn

from detector.exporting.nms import TRANSLATIONS
from detector.inference.running import Facts

OPSET = 20
INPUT = "image"
OUTPUTS = ("location", "score", "category")
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


def write_onnx(model: nn.Module, facts: Facts, path: Path) -> None:
    """Export `model` (in evaluation mode, on the CPU) for any batch size; the bytes are the same each time.

    The metadata hold what is needed to use the file alone: class names, thresholds, input size, padding colour ...
    """
    example = torch.zeros(2, 3, *facts.size, dtype=torch.uint8)
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")  # the exporter warns of its own internals
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
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
    assert program is not None
    file = program.model_proto
    without_traces(file)
    describe(file, facts)
    onnx.checker.check_model(file, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(file.SerializeToString(deterministic=True))


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


def describe(file: onnx.ModelProto, facts: Facts) -> None:
    """Write the metadata, each value as JSON."""
    del file.metadata_props[:]
    for key, value in facts._asdict().items():
        file.metadata_props.add(key=key, value=json.dumps(value, ensure_ascii=False))
