"""Which differences the parity gate accepts, and how it reports the others."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageColor

from detector.core.errors import UserError
from detector.engine.detections import Detections
from detector.exporting.parity import DetectionDifference
from detector.exporting.parity_gate import Tolerance, compare_detections, draw_side_by_side, raise_mismatch
from detector.plotting.palette import GROUND_TRUTH_COLOR, PREDICTION_COLOR
from detector.runners.model_metadata import ModelMetadata

TOLERANCE = Tolerance(0.5, 1e-3)
METADATA = ModelMetadata(model="tiny", classes=["cell"], states=[], size=(64, 96), fill=(0, 0, 0), data="")


def make_detections(*rows: tuple[float, float]) -> Detections:
    """Build detections from (left, score); all boxes are 20 x 20."""
    boxes = np.array([(left, 10, left + 20, 30) for left, _ in rows], np.float32).reshape(-1, 4)
    ones = np.ones(len(rows), np.int64)
    return Detections(boxes, np.array([score for _, score in rows], np.float32), ones, ones * 0, ones * np.float32(0))


@pytest.mark.parametrize(
    ("actual", "passes"),
    [
        (make_detections((10, 0.9)), True),
        (make_detections((10.4, 0.9)), True),
        (make_detections((10.6, 0.9)), False),
        (make_detections((10, 0.8995)), True),
        (make_detections((10, 0.898)), False),
        (make_detections(), False),
        (make_detections((10, 0.9), (50, 0.04)), True),
        (make_detections((10, 0.9), (50, 0.06)), False),
        (make_detections((10, float("nan"))), False),
        (make_detections((float("nan"), 0.9)), False),
    ],
)
def test_tolerances(actual: Detections, passes: bool) -> None:
    same = make_detections((40, 0.7))
    parity = compare_detections([same, make_detections((10, 0.9)), same], [same, actual, same], TOLERANCE, 5)
    assert parity.is_within(TOLERANCE) is passes
    if not passes:
        assert parity.image == 1


def test_no_detections_on_either_side() -> None:
    assert compare_detections([make_detections()], [make_detections()], TOLERANCE, 5).is_within(TOLERANCE)


def test_both_sides_of_an_image_are_drawn(tmp_path: Path) -> None:
    Image.new("RGB", (96, 64), (40, 40, 40)).save(tmp_path / "one.png")
    expected, actual = make_detections((10, 0.9)), make_detections((60, 0.9), (float("nan"), 0.5))
    draw_side_by_side(tmp_path / "one.png", METADATA, expected, actual, tmp_path / "worst.png")
    with Image.open(tmp_path / "worst.png") as image:
        assert image.size == (2 * 96, 64)
        assert image.getpixel((10, 20)) == ImageColor.getrgb(GROUND_TRUTH_COLOR)
        assert image.getpixel((96 + 60, 20)) == ImageColor.getrgb(PREDICTION_COLOR)
        assert image.getpixel((96 + 10, 20)) == (40, 40, 40)


def test_a_mismatch_names_the_image_and_the_numbers() -> None:
    difference = DetectionDifference(box=0.75, score=0.002, unmatched=0.9)
    with pytest.raises(UserError, match=r"one\.png: .*0\.75 .*0\.002.* 0\.9; .*0\.5, 0\.001 .*worst\.png"):
        raise_mismatch("it differs", "one.png", difference, TOLERANCE, Path("worst.png"))
