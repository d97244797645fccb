"""A real ONNX file that needs no training: it finds two objects, the brighter the image the surer it is."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

SIZE = (48, 64)  # height, width
BOXES = np.array([[[4, 8, 36, 40], [0, 0, 16, 16], [0, 0, 0, 0]]], np.float32)
SHARES = np.array([[1, 0.5, 0]], np.float32)  # of the brightness, which are the scores
LABELS = np.array([[2, 1, 0]], np.int64)
FACTS = {
    "model": "brightness", "classes": ["dim", "bright"], "states": ["whole", "gone"], "size": SIZE, "fill": [0, 0, 0],
    "data": "of", "threshold": {"dim": 0.2, "bright": 0.6}, "temperature": 2.0, "code": "code", "dataset": "manifest",
    "precision": "fp32", "nms_iou": 0.5, "max_detections": 3,
}  # fmt: skip


def write_model(path: Path, batch: int | str = "batch", **changes: object) -> Path:
    """Input and outputs as export writes them; changes: of FACTS."""
    constants = {"boxes": BOXES, "shares": SHARES, "labels": LABELS, "states": LABELS[:, ::-1].copy(),
                 "white": np.array(255, np.float32), "zero": np.array(0, np.int64)}  # fmt: skip
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["pixels", "axes"], ["mean"], keepdims=0),
        helper.make_node("Div", ["mean", "white"], ["brightness"]),
        helper.make_node("Unsqueeze", ["brightness", "last"], ["column"]),
        helper.make_node("Mul", ["column", "shares"], ["score"]),
        helper.make_node("Mul", ["column", "shares"], ["state_score"]),
        helper.make_node("Shape", ["image"], ["shape"]),
        helper.make_node("Slice", ["shape", "first", "last"], ["count"]),
        helper.make_node("Concat", ["count", "last", "last"], ["times3"], axis=0),
        helper.make_node("Concat", ["count", "last"], ["times2"], axis=0),
        helper.make_node("Tile", ["boxes", "times3"], ["location"]),
        helper.make_node("Tile", ["labels", "times2"], ["category"]),
        helper.make_node("Tile", ["states", "times2"], ["state"]),
    ]
    constants |= {"axes": np.array([1, 2, 3]), "last": np.array([1]), "first": np.array([0])}
    kinds = {"location": (TensorProto.FLOAT, [batch, 3, 4]), "score": (TensorProto.FLOAT, [batch, 3]),
             "category": (TensorProto.INT64, [batch, 3]), "state": (TensorProto.INT64, [batch, 3]),
             "state_score": (TensorProto.FLOAT, [batch, 3])}  # fmt: skip
    graph = helper.make_graph(
        nodes,
        "brightness",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [batch, 3, *SIZE])],
        [helper.make_tensor_value_info(name, *kind) for name, kind in kinds.items()],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    for key, value in (FACTS | changes).items():
        model.metadata_props.add(key=key, value=json.dumps(value))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)
    return path


def picture(grey: int, size: tuple[int, int] = (128, 96), kind: str = "PNG", **more: object) -> bytes:
    """An image file of one brightness; its detections' raw scores are grey / 255 and half of that."""
    file = io.BytesIO()
    Image.new("RGB", size, (grey, grey, grey)).save(file, kind, **more)
    return file.getvalue()
