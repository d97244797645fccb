"""Numbers that the export stage writes."""

from __future__ import annotations

import pytest

from detector.exporting.parity import DetectionDifference
from detector.exporting.results import (
    VerifiedFile,
    describe_differences,
    describe_times,
    find_drawback,
    round_up,
    summarize,
)


@pytest.mark.parametrize(
    ("difference", "expected"),
    [
        (0.0, 1e-7),
        (3e-6, 1e-5),
        (4.2e-5, 1e-4),
        (1e-4, 1e-4),
        (0.0087, 0.01),
        (0.0871, 0.088),
        (0.27, 0.27),
        (5.41, 5.5),
        (9.99, 10.0),
        (123.0, 130.0),
    ],
)
def test_rounding_up(difference: float, expected: float) -> None:
    assert round_up(difference) == pytest.approx(expected, rel=1e-12)
    assert round_up(difference) >= difference


def test_one_file() -> None:
    file = VerifiedFile(b"12345", 0.7, {8: 0.16, 1: 0.03, 2: 0.05}, DetectionDifference(5.41, 0.0871, 0.0), 12)
    assert describe_differences(file, 0.75) == {
        "bytes": 5,
        "AP": 0.7,
        "AP_drop": 0.05,
        "box_difference_below": 5.5,
        "score_difference_below": 0.088,
        "unmatched_detections": 12,
        "images_with_near_ties": 0,
    }
    assert describe_differences(file._replace(ap=None), None)["AP_drop"] is None
    assert describe_times(file) == {"batch_1_ms": 30.0, "batch_2_ms": 50.0, "batch_8_ms": 160.0}
    line = summarize("int8", file)
    assert "30.0 ms per image (batch size 1), 20.0 ms per image (batch size 8)" in line
    assert "12 unmatched" in line
    assert "(batch size 1); " in summarize("fp32", file._replace(seconds={1: 0.03}))


@pytest.mark.parametrize(
    ("ap", "milliseconds", "drawback"),
    [
        (0.695, 20, ""),
        (0.65, 20, "the other file's AP is lower by 0.0500, allowed is 0.01"),
        (0.70, 31, "30.0 ms per image, the other file 31.0 ms"),
        (None, 20, ""),
    ],
)
def test_the_file_in_lower_precision_is_chosen_if_it_is_faster_and_nearly_as_good(
    ap: float | None, milliseconds: float, drawback: str
) -> None:
    fp32 = VerifiedFile(b"", 0.7, {1: 0.03, 8: 0.1}, DetectionDifference(0, 0, 0), 0)
    lower = fp32._replace(ap=ap, seconds={1: milliseconds / 1000, 8: 0.2})
    assert find_drawback(fp32, lower, 0.7, 0.01) == drawback
