"""NMS in an ONNX file."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from detector.exporting.nms import TRANSLATIONS
from detector.models.postprocess import Postprocess


class Selection(nn.Module):
    """Boxes and scores to detections."""

    def forward(self, boxes: Tensor, scores: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        selected = Postprocess(score_threshold=0.1, nms_iou=0.5, max_detections=20)(boxes, scores)
        return selected.boxes_xyxy, selected.scores, selected.labels


@pytest.mark.parametrize("spread", [40, 4000])  # pixels: nearly all boxes overlap, or hardly any does
def test_what_the_file_leaves_out_of_a_class_changes_no_detection(spread: int, tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(spread)
    corners = torch.rand(2, 150, 2, generator=generator) * spread
    boxes = torch.cat([corners, corners + 30], dim=2)
    scores = torch.rand(2, 150, 2, generator=generator) * torch.tensor([1.0, 0.8])
    torch.onnx.export(
        Selection().eval(),
        (boxes, scores),
        tmp_path / "selection.onnx",
        dynamo=True,
        input_names=["boxes", "scores"],
        custom_translation_table=TRANSLATIONS,
        verbose=False,
    )
    graph = onnx.load(tmp_path / "selection.onnx").graph
    constants = {tensor.name: numpy_helper.to_array(tensor).tolist() for tensor in graph.initializer}
    assert [constants[one.input[2]] for one in graph.node if one.op_type == "NonMaxSuppression"] == [[20]]
    session = onnxruntime.InferenceSession(tmp_path / "selection.onnx", providers=["CPUExecutionProvider"])
    found = session.run(None, {"boxes": boxes.numpy(), "scores": scores.numpy()})
    for ours, theirs in zip(found, Selection()(boxes, scores), strict=True):
        assert torch.allclose(torch.from_numpy(ours), theirs)
