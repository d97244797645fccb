"""A fake detector as an ONNX file: it detects two objects, whose scores are proportional to the image's brightness."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image

from tests.support.bright_model import save_graph

SIZE = (96, 128)  # height, width
FACTS: dict[str, Any] = {
    "model": "brightness", "classes": ["dim", "bright"], "states": ["whole", "gone"], "size": SIZE, "fill": [0, 0, 0],
    "data": "of", "threshold": {"dim": 0.2, "bright": 0.6}, "temperature": 2.0, "code": "code", "dataset": "manifest",
    "precision": "fp32", "nms_iou": 0.5, "max_detections": 3,
}  # fmt: skip
GRAPH = """
<ir_version: 10, opset_import: ["": 20]>
brightness (uint8[BATCH, 3, 96, 128] image) => (float[BATCH, 3, 4] location, float[BATCH, 3] score,
    int64[BATCH, 3] category, int64[BATCH, 3] state, float[BATCH, 3] state_score)
<float white = {255.0}, int64[3] axes = {1, 2, 3}, int64[1] zero = {0}, int64[1] one = {1},
 float[1, 3] fractions = {1.0, 0.5, 0.0}, int64[1, 3] labels = {2, 1, 0}, int64[1, 3] states = {0, 1, 2},
 float[1, 3, 4] boxes = {8.0, 16.0, 72.0, 80.0, 0.0, 0.0, 32.0, 32.0, 0.0, 0.0, 0.0, 0.0}>
{
  pixels = Cast <to = 1> (image)
  mean = ReduceMean <keepdims = 0> (pixels, axes)
  brightness = Div (mean, white)
  column = Unsqueeze (brightness, one)
  score = Mul (column, fractions)
  state_score = Mul (column, fractions)
  shape = Shape (image)
  count = Slice (shape, zero, one)
  repeats_2d = Concat <axis = 0> (count, one)
  repeats_3d = Concat <axis = 0> (count, one, one)
  location = Tile (boxes, repeats_3d)
  category = Tile (labels, repeats_2d)
  state = Tile (states, repeats_2d)
}
"""


def write_model(path: Path, batch: int | str = "batch", **changes: object) -> Path:
    """Write the file, with the inputs and outputs of an exported model. changes: to FACTS."""
    return save_graph(GRAPH.replace("BATCH", str(batch)), FACTS | changes, path)


def picture(grey: int, size: tuple[int, int] = (128, 96), kind: str = "PNG", **more: object) -> bytes:
    """An image file of one gray level; the raw scores of its detections are grey / 255 and half of that."""
    file = io.BytesIO()
    Image.new("RGB", size, (grey, grey, grey)).save(file, kind, **more)
    return file.getvalue()
