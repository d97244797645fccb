"""What an exported file says about itself: its metadata, which are also its sidecar, and its doc strings."""

from __future__ import annotations

from typing import Any

import onnx

from detector.engine.detections import SCORE_STEP
from detector.runners.model_metadata import ModelMetadata

INPUT = "image"
# The first ONNX Runtime that reads an opset and the IR version that we write with it, from its compatibility table.
FIRST_ONNXRUNTIME = {17: "1.12", 20: "1.17"}
LETTERBOX = {
    "scale": "min(W / width, H / height), with [H, W] = `size`",
    "resized": "max(1, round(width * scale)) x max(1, round(height * scale)), halves rounded to even",
    "interpolation": "bilinear with antialiasing, as Pillow's BILINEAR: a triangle filter as wide as the reduction",
    "position": "top left; the padding is right and below",
    "padding": "the RGB color `fill`",
    "large JPEGs": "in training, those at least twice as large as needed were decoded at half their size or less",
    "boxes": "x * width / (resized width), y * height / (resized height) for pixels of the image",
}
CALIBRATION = (
    f"1 / (1 + exp(-log(s / (1 - s)) / temperature)), with s = score clipped to {SCORE_STEP:g} .. 1 - {SCORE_STEP:g}"
)
THRESHOLD = "a detection counts if its score, as the file returns it, is at least the `threshold` of its class"


def describe_file(file: onnx.ModelProto, metadata: ModelMetadata) -> dict[str, Any]:
    """The metadata of an exported file: each field of `metadata`, and how to use the file without this project."""
    (opset,) = (entry.version for entry in file.opset_import if entry.domain == "")
    height, width = metadata.size
    image = {
        "type": "uint8",
        "shape": ["batch" if metadata.decoding is None else 1, 3, height, width],
        "meaning": "RGB image, letterboxed, values 0 to 255; the file normalizes it",
    }
    return metadata.model_dump(mode="json") | {
        "inputs": {INPUT: image},
        "outputs": describe_outputs(metadata),
        "letterbox": LETTERBOX,
        "score_calibration": CALIBRATION,
        "threshold_rule": THRESHOLD,
        "opset": opset,
        "ir_version": file.ir_version,
        "onnxruntime": f">={FIRST_ONNXRUNTIME[opset]}",
    }


def describe_outputs(metadata: ModelMetadata) -> dict[str, dict[str, Any]]:
    """Type, shape and meaning of each output, in the file's order."""
    if metadata.decoding is not None:
        return _describe_raw_outputs(metadata)
    rows = [
        ("location", "float32", [4], "boxes x1, y1, x2, y2 in pixels of the input, best first; rows of 0 are padding"),
        ("score", "float32", [], "0 to 1, not calibrated; 0 is padding"),
        ("category", "int64", [], "number of the class in `classes`, from 1; 0 is padding"),
        ("state", "int64", [], "number of the state in `states`, from 1; 0 is padding"),
        ("state_score", "float32", [], "probability of the state, 0 to 1"),
    ]
    shape = ["batch", metadata.max_detections]
    return {
        name: {"type": kind, "shape": [*shape, *rest], "meaning": meaning}
        for name, kind, rest, meaning in rows[: 5 if metadata.states else 3]
    }


def _describe_raw_outputs(metadata: ModelMetadata) -> dict[str, dict[str, Any]]:
    """The outputs of a file without NMS: "locations" is a fixed number that depends on the model and the input size."""
    assert metadata.decoding is not None
    nms = "" if metadata.decoding.nms_iou is None else "; then NMS per class with the IoU threshold `nms_iou`"
    rows = [
        ("boxes", 4, "x1, y1, x2, y2 in pixels of the input, one box per location"),
        (
            "scores",
            len(metadata.classes),
            "of each class at each location, 0 to 1, not calibrated. Detections: of the `candidates` (location, class) "
            f"pairs with the highest scores those above `score_threshold`{nms}; the best `max_detections` of them; "
            "the numbers are in `decoding`",
        ),
        ("state_scores", len(metadata.states), "probability of each state at each location; the state is the highest"),
    ]
    return {
        name: {"type": "float32", "shape": [1, "locations", count], "meaning": meaning}
        for name, count, meaning in rows
        if count
    }
