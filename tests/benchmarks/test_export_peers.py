"""The rows of the comparison of exported files with YOLO's."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from benchmarks import export_peers, timing


def make_runner(seconds: float) -> Callable[[Any], list[Any]]:
    """A runner that takes this long."""

    def run(_: Any) -> list[Any]:
        time.sleep(seconds)
        return []

    return run


@pytest.mark.parametrize(("float32", "int8", "passed"), [(0.02, 0.001, True), (0.001, 0.02, False)])
def test_a_slower_int8_file_is_said_to_be_no_choice_of_auto(
    float32: float, int8: float, passed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "SPIN_SECONDS", 0)
    row = export_peers.compare_precisions("effnet", [make_runner(float32), make_runner(int8)], threads=2, budget=0)
    assert (row.what, row.target, row.passed) == ("`effnet` in int8, 2 threads", "≤ 1 ×", passed)
    assert ("`auto` exports float32" in row.measured) is not passed


def test_shares_without_a_target_get_no_verdict() -> None:
    assert export_peers.describe_share(0.5, None) == ("0.50 ×", "", None)
    assert export_peers.describe_share(0.904, 0.9) == ("0.90 ×", "≤ 0.9 ×", False)


def test_padding_of_the_peer_is_not_counted() -> None:
    output = np.zeros((1, 5, 6), np.float32)
    output[0, :2, 4] = 0.3
    assert export_peers.count_peer_detections(output) == 2
