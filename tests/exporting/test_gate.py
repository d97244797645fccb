"""What the gate lets through, and what it shows of the rest."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.core.errors import UserError
from detector.engine.detections import Detections
from detector.exporting.gate import Tolerance, compare, refuse
from detector.runners.tiled import ModelMetadata

TOLERANCE = Tolerance(0.5, 1e-3)
FACTS = ModelMetadata("tiny", ["cell"], [], (64, 96), (0, 0, 0), "")


def found(*rows: tuple[float, float]) -> Detections:
    """(left, score) of boxes of 20 x 20."""
    boxes = np.array([(left, 10, left + 20, 30) for left, _ in rows], np.float32).reshape(-1, 4)
    ones = np.ones(len(rows), np.int64)
    return Detections(boxes, np.array([score for _, score in rows], np.float32), ones, ones * 0, ones * np.float32(0))


@pytest.mark.parametrize(
    ("answer", "passes"),
    [
        (found((10, 0.9)), True),
        (found((10.4, 0.9)), True),
        (found((10.6, 0.9)), False),
        (found((10, 0.8995)), True),
        (found((10, 0.898)), False),
        (found(), False),
        (found((10, 0.9), (50, 0.04)), True),
        (found((10, 0.9), (50, 0.06)), False),
        (found((10, float("nan"))), False),
        (found((float("nan"), 0.9)), False),
    ],
)
def test_the_tolerances(answer: Detections, passes: bool) -> None:
    same = found((40, 0.7))
    compared = compare([same, found((10, 0.9)), same], [same, answer, same], TOLERANCE, 5)
    assert compared.is_within(TOLERANCE) is passes
    if not passes:
        assert compared.image == 1


def test_nothing_found_by_both() -> None:
    assert compare([found()], [found()], TOLERANCE, 5).is_within(TOLERANCE)


def test_the_worst_image_is_drawn(tmp_path: Path) -> None:
    Image.new("RGB", (96, 64), (40, 40, 40)).save(tmp_path / "one.png")
    first, second = found((10, 0.9)), found((60, 0.9), (float("nan"), 0.5))
    compared = compare([first], [second], TOLERANCE, 5)
    with pytest.raises(UserError, match=r"differs on .*one\.png: .* one side only; .*worst\.png shows both"):
        refuse(
            compared, TOLERANCE, "it differs", str(tmp_path / "one.png"), FACTS, (first, second), tmp_path / "worst.png"
        )
    with Image.open(tmp_path / "worst.png") as picture:
        assert picture.size == (2 * 96, 64)
        assert picture.getpixel((10, 20)) == (0, 220, 90)
        assert picture.getpixel((96 + 60, 20)) == (255, 60, 60)
        assert picture.getpixel((96 + 10, 20)) == (40, 40, 40)
