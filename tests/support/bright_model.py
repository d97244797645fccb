"""A detector that needs no training, as an ONNX file with a dynamic batch size: it detects white and red regions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import onnx
from PIL import Image

SIZE = (64, 64)
METADATA: dict[str, Any] = {
    "model": "bright", "classes": ["white", "rot ü"], "states": ["intact", "damaged"], "size": SIZE, "fill": [0, 0, 0],
    "data": "hash", "threshold": {"white": 0.5, "rot ü": 0.2}, "temperature": 0.5, "code": "", "dataset": "",
    "precision": "fp32", "nms_iou": 0.6, "max_detections": 100,
}  # fmt: skip
RAW_SCORES = (0.6, 0.3)  # scores of the two classes before calibration ...
CALIBRATED_SCORES = (0.69231, 0.15517)  # ... and after
# For each image: the bounding boxes of all white pixels and of all red pixels.
GRAPH = """
<ir_version: 10, opset_import: ["": 20]>
bright (uint8[batch, 3, 64, 64] image) => (float[batch, 2, 4] location, float[batch, 2] score,
                                           int64[batch, 2] category STATES)
<float half = {128.0}, int64[1] one = {1}, int64[1] two = {2}, int64[1] three = {3}, int64 next = {1},
 float[2] scores = {0.6, 0.3}, int64[2] labels = {1, 2}, int64[2] states = {1, 2}, float[2] sure = {0.9, 0.8}>
{
  values = Cast <to = 1> (image)
  high = Greater (values, half)
  bright = Cast <to = 1> (high)
  red, green, blue = Split <axis = 1, num_outputs = 3> (bright)
  white = Mul (green, blue)
  not_green = Sub (red, green)
  only_red = Relu (not_green)
  masks = Concat <axis = 1> (white, only_red)
  rows = ReduceMax <keepdims = 0> (masks, three)
  columns = ReduceMax <keepdims = 0> (masks, two)
  any = ReduceMax <keepdims = 0> (rows, two)
  found = Cast <to = 7> (any)
  top = ArgMax <axis = 2> (rows)
  left = ArgMax <axis = 2> (columns)
  last_row = ArgMax <axis = 2, select_last_index = 1> (rows)
  last_column = ArgMax <axis = 2, select_last_index = 1> (columns)
  bottom = Add (last_row, next)
  right = Add (last_column, next)
  corners = Concat <axis = 2> (left, top, right, bottom)
  boxes = Cast <to = 1> (corners)
  wide = Unsqueeze (any, two)
  location = Mul (boxes, wide)
  score = Mul (any, scores)
  category = Mul (found, labels)
  STATE_NODES
}
"""
STATE_OUTPUTS = ", int64[batch, 2] state, float[batch, 2] state_score"
STATE_NODES = "state = Mul (found, states)\n  state_score = Mul (any, sure)"


def write_bright(path: Path, **changes: Any) -> Path:
    """Write the file; changes: to METADATA. Without states it has no state outputs."""
    metadata = METADATA | changes
    outputs, nodes = (STATE_OUTPUTS, STATE_NODES) if metadata["states"] else ("", "")
    return save_graph(GRAPH.replace("STATE_NODES", nodes).replace("STATES", outputs), metadata, path)


def save_graph(graph: str, metadata: dict[str, Any], path: Path) -> Path:
    """Write a graph in ONNX's text format, with metadata, as an ONNX file."""
    model = onnx.parser.parse_model(graph)
    for key, value in metadata.items():
        model.metadata_props.add(key=key, value=json.dumps(value))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


def make_image(
    size: tuple[int, int] = (128, 96),
    white: tuple[int, int, int, int] | None = (16, 32, 64, 80),
    red: tuple[int, int, int, int] | None = None,
) -> Image.Image:
    """Create a black image of `size` (width, height) with a white and a red rectangle (xyxy)."""
    image = Image.new("RGB", size)
    for box, color in ((white, (255, 255, 255)), (red, (255, 0, 0))):
        if box is not None:
            image.paste(color, box)
    return image
