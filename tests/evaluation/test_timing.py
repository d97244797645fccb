"""Time per part, with a fake clock."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import nn

from detector.evaluation import timing
from detector.models.postprocess import Postprocess


@pytest.fixture
def tick(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    now = [0.0]
    monkeypatch.setattr(timing, "_now", lambda: now[0])

    def advance(seconds: float) -> None:
        now[0] += seconds

    return advance


def test_parts_add_up_to_the_total(tick: Callable[[float], None]) -> None:
    clock = timing.Clock()

    class Model(nn.Module):
        def forward(self, number: int) -> int:
            tick(3)
            with clock.track("postprocess"):
                tick(1)
            return number

    def batches() -> Iterator[Any]:
        for number in (1, 2):
            tick(2)
            yield number

    model = Model()
    clock.track_calls(model, "model")
    assert [model(number) for number in clock.track_iteration(batches(), "decode")] == [1, 2]
    assert timing.summarize_times(clock, 4, 16.0) == {
        "images_per_second": 0.25,
        "decode_ms": 1000,
        "model_ms": 1500,
        "other_ms": 1000,
        "postprocess_ms": 500,
    }


def test_timed_postprocess_gives_the_same_detections(tick: Callable[[float], None]) -> None:
    boxes, scores = torch.rand(2, 30, 4) * 20, torch.rand(2, 30, 3)
    boxes[..., 2:] += boxes[..., :2]
    plain, timed = Postprocess(0.1, 0.5, 10), timing.TimedPostprocess(0.1, 0.5, 10)
    for name in ("__call__", "select_without_nms"):
        for one, other in zip(getattr(plain, name)(boxes, scores), getattr(timed, name)(boxes, scores), strict=True):
            assert torch.equal(one, other)
    assert "postprocess" in timed.clock.seconds
