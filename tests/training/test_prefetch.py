"""Batches come to the device in order, augmented, one ahead of the step on a GPU."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from typing import Any

import pytest
import torch

from detector.engine.dataset import Batch
from detector.training import prefetch
from detector.training.prefetch import move_ahead
from tests.support.targets import no_targets


def batches(log: list[str], count: int = 3) -> Iterator[Batch]:
    for number in range(count):
        log.append(f"load {number}")
        images = torch.full((1, 3, 4, 4), number, dtype=torch.uint8)
        yield Batch(images, no_targets(1, (4, 4)), [number], [(1.0, 1.0)])


def test_a_cpu_gets_each_batch_as_it_comes() -> None:
    log: list[str] = []
    for number, batch in enumerate(move_ahead(batches(log), torch.device("cpu"))):
        assert batch.rows == [number]
        log.append(f"train {number}")
    assert log == [f"{what} {number}" for number in range(3) for what in ("load", "train")]


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_gpu_copies_the_next_batch_before_a_step(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """With stand-ins for the streams, to see the order on a machine without a GPU."""
    log: list[str] = []

    def finish(batch: Batch, device: torch.device) -> Batch:
        log.append(f"copy {batch.rows[0]}")
        return batch

    def hand_over(batch: Batch, stream: Any) -> Batch:
        log.append(f"wait {batch.rows[0]}")
        return batch

    monkeypatch.setattr(torch.cuda, "Stream", lambda device: "stream")
    monkeypatch.setattr(torch.cuda, "stream", nullcontext)
    monkeypatch.setattr(prefetch, "finish_batch", finish)
    monkeypatch.setattr(prefetch, "_hand_over", hand_over)
    for batch in move_ahead(batches(log, count), torch.device("cuda")):
        log.append(f"train {batch.rows[0]}")
    order = [line for line in log if not line.startswith("load")]
    assert [line for line in order if line.startswith("train")] == [f"train {number}" for number in range(count)]
    for number in range(count):
        assert order.index(f"wait {number}") < order.index(f"train {number}")
        if number + 1 < count:
            assert order.index(f"copy {number + 1}") < order.index(f"train {number}")
            assert order.index(f"train {number}") < order.index(f"wait {number + 1}")
