"""The rows of the benchmark of exported files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks import export, timing
from benchmarks.exported_models import SIZE, ExportedModel, ImageBatch, make_inputs
from detector.core.errors import UserError
from detector.engine.detections import Detections


def make_detections(scores: list[float], shift: float = 0.0) -> Detections:
    """Non-overlapping detections of class 1."""
    left = 30.0 * np.arange(len(scores)) + shift
    boxes = np.stack([left, left * 0, left + 20, left * 0 + 20], axis=1).astype(np.float32)
    zeros = np.zeros(len(scores))
    return Detections(
        boxes, np.array(scores, np.float32), zeros.astype(int) + 1, zeros.astype(int), zeros.astype(np.float32)
    )


def test_images_with_equal_detections_are_counted() -> None:
    def pytorch(images: ImageBatch) -> list[Detections]:
        return [make_detections([0.9, 0.5]) for _ in images]

    def onnx(images: ImageBatch) -> list[Detections]:
        return [make_detections([0.9, 0.5 if image.max() else 0.3], shift=0.25) for image in images]

    images = np.ones((4, 3, 2, 2), np.uint8)
    images[3] = 0
    agreement = export.compare_outputs(pytorch, onnx, images)
    assert (agreement.equal, agreement.images) == (3, 4)
    assert agreement.box == pytest.approx(0.25)
    assert agreement.score == 0


def test_an_unmatched_detection_is_a_difference() -> None:
    image = np.zeros((1, 3, 2, 2), np.uint8)
    agreement = export.compare_outputs(
        lambda _: [make_detections([0.9, 0.5])], lambda _: [make_detections([0.9])], image
    )
    assert agreement.equal == 0


def test_unsupported_batch_sizes_are_left_out_and_missing_results_are_marked() -> None:
    def onnx(images: ImageBatch) -> list[Detections]:
        if len(images) == 7:
            raise UserError("unsupported batch size")
        return [make_detections([0.9])] * min(2, len(images))

    assert export.find_batch_sizes(onnx, np.zeros((7, 3, 2, 2), np.uint8)) == "1, 2, 3 (only 2 results!)"


@pytest.mark.parametrize(("name", "target"), [("simple", "≥ 1.5 ×"), ("detr", "≥ 1 ×")])
def test_targets_differ_by_model(name: str, target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "SPIN_SECONDS", 0)

    def run(images: ImageBatch) -> list[Detections]:
        return []

    rows = list(export.onnx_rows(ExportedModel(name, Path("none"), run, run, run), budget=0))
    assert [row.target for row in rows] == [target, target]
    assert "batch 8" in rows[1].what


def test_inputs_are_letterboxed_photographs() -> None:
    (first, second) = make_inputs(2)
    assert first.shape == (3, *SIZE)
    assert (first[:, -1] == 120).all()  # 640 x 480 in a square
    assert first.std() > 10
    assert (first != second).any()
