"""When metrics count as reproduced, and the issue's text; the whole flow is in test_retrain.py."""

from __future__ import annotations

from typing import Any

import pytest

import reproduce

NEW = {"AP": 0.7, "AP_low": 0.6, "AP_high": 0.8}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"AP": 0.7}, NEW, True),
        ({"AP": 0.6}, NEW, True),
        ({"AP": 0.8}, NEW, True),
        ({"AP": 0.59}, NEW, False),
        ({"AP": 0.81}, NEW, False),
        ({"AP": None}, NEW, False),
        ({}, NEW, False),
        ({"AP": 1.0}, {"AP": 1.0, "AP_low": None, "AP_high": None}, True),
        ({"AP": 0.999}, {"AP": 1.0, "AP_low": None, "AP_high": None}, False),
        ({"AP": None}, {"AP": None}, True),
        ({"AP": None}, {"AP": 0.5}, False),
        ({}, {}, True),
    ],
)
def test_is_within_interval(old: dict[str, Any], new: dict[str, Any], expected: bool) -> None:
    assert reproduce.is_within_interval(old, new, "AP") is expected


def test_the_issue_lists_metrics_and_files() -> None:
    text = reproduce.render_differences([f"metrics/{number}.json" for number in range(23)], ["| AP | 0.7 | 0.5 |"])
    lines = text.splitlines()
    assert lines[1:3] == ["| --- | --- | --- |", "| AP | 0.7 | 0.5 |"]
    assert lines[-2] == "- `metrics/19.json`"
    assert "3 more" in lines[-1]
