"""The check that an ONNX file has to pass: for every batch size its detections match the model's."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from detector.core.errors import UserError
from detector.core.images import load_letterboxed
from detector.engine.detections import Detections
from detector.exporting.parity import DetectionDifference, compute_difference
from detector.plotting.box_drawing import StyledBox, draw_boxes
from detector.plotting.palette import GROUND_TRUTH_COLOR, PREDICTION_COLOR
from detector.plotting.picture_file import write_picture
from detector.runners.model_metadata import ModelMetadata

# Two boxes with almost equal scores may swap places in NMS, so an unmatched detection may score up to this.
MAX_UNMATCHED_SCORE = 0.05
MIN_DRAWN_SCORE = 0.05  # lowest score drawn
COLORS = (GROUND_TRUTH_COLOR, PREDICTION_COLOR)  # expected, actual


class Tolerance(NamedTuple):
    """box: pixels of the input; score: 0 to 1."""

    box: float
    score: float


class ParityResult(NamedTuple):
    """image: the index with the largest differences, `difference`; worst: the maximum of each over all images."""

    image: int
    difference: DetectionDifference
    worst: DetectionDifference

    def is_within(self, tolerance: Tolerance) -> bool:
        """Return whether all images are within the tolerance."""
        return _relative_excess(self.difference, tolerance) <= 1


def compare_detections(
    expected: list[Detections], actual: list[Detections], tolerance: Tolerance, max_detections: int
) -> ParityResult:
    """Compare two sets of detections on the same images, in pixels of the model input."""
    differences = [
        compute_difference(one, other, max_detections, tolerance.score)
        for one, other in zip(expected, actual, strict=True)
    ]
    image = int(np.argmax([_relative_excess(one, tolerance) for one in differences]))
    worst = DetectionDifference(*(max(values) for values in zip(*differences, strict=True)))
    return ParityResult(image, differences[image], worst)


def draw_side_by_side(
    path: Path, metadata: ModelMetadata, expected: Detections, actual: Detections, target: Path
) -> None:
    """Draw expected and actual detections side by side on the letterboxed image: boxes with class and score."""
    pixels = load_letterboxed(path, metadata.size, metadata.fill).pixels
    height, width = metadata.size
    sheet = Image.new("RGB", (2 * width, height))
    for column, (detections, color) in enumerate(zip((expected, actual), COLORS, strict=True)):
        rows = zip(detections.boxes_xyxy.tolist(), detections.labels, detections.scores, strict=True)
        boxes = [
            StyledBox(xyxy, color, f"{metadata.classes[label - 1]} {score:.2f}", width=1)
            for xyxy, label, score in rows
            if score >= MIN_DRAWN_SCORE and np.isfinite(xyxy).all()
        ]
        picture = Image.fromarray(pixels)
        draw_boxes(picture, boxes, font_size=10)
        sheet.paste(picture, (column * width, 0))
    write_picture(target, sheet, "PNG")


def raise_mismatch(
    summary: str, path: str, difference: DetectionDifference, tolerance: Tolerance, comparison_image: Path
) -> None:
    """Raise UserError about the image with the largest difference; comparison_image: a drawing of it."""
    raise UserError(
        f"{summary} on {path}: boxes differ by up to {difference.box:.3g} pixels, scores by {difference.score:.3g}, "
        f"and the highest score of an unmatched detection is {difference.unmatched:.3g}; allowed are {tolerance.box}, "
        f"{tolerance.score} and {MAX_UNMATCHED_SCORE}. {comparison_image} shows expected (left) and actual (right). "
        "No model file and no metrics/export.json were written."
    )


def check_ap(precision: str, file_ap: float | None, model_ap: float | None, tolerance: float) -> None:
    """Raise UserError if the file's AP is lower than the model's by more than `tolerance`; for fp32, also if higher."""
    if file_ap is None or model_ap is None:
        return
    drop = abs(model_ap - file_ap) if precision == "fp32" else model_ap - file_ap
    if drop <= tolerance:
        return
    advice = (
        "does data/predictions belong to this checkpoint? Run `dvc repro`"
        if precision == "fp32"
        else "use export.precision: fp32, or increase export.max_ap_drop"
    )
    raise UserError(
        f"the ONNX file ({precision}) reaches AP {file_ap:.4f} on test, the model {model_ap:.4f}: a difference of "
        f"{drop:.4f}, allowed is {tolerance}. No model file was written; {advice}"
    )


def _relative_excess(difference: DetectionDifference, tolerance: Tolerance) -> float:
    """Return the largest ratio of a difference to its limit; infinite for NaN."""
    ratios = (
        difference.box / tolerance.box,
        difference.score / tolerance.score,
        difference.unmatched / MAX_UNMATCHED_SCORE,
    )
    return max(float("inf") if np.isnan(ratio) else ratio for ratio in ratios)
