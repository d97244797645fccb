"""What a training prints beside each epoch."""

from __future__ import annotations

import pytest
import torch

from detector.training.progress import Spent, epoch_line, peak_memory


def test_the_line_of_an_epoch() -> None:
    spent = Spent(training=10.0, waiting=0.5, validation=2.0, batches=5, all_batches=10)
    line = epoch_line(2, 4, 1.25, 0.01, {"loss": 2, "AP": 0.5, "AP50": 0.75}, 8, spent, 1.26)
    assert line.split("  ") == [
        "epoch", " 2/4", "loss 1.250", "val loss 2.000", "AP 0.500", "AP50 0.750", "lr 0.01", "4 images/s", "data 5%",
        "memory 1.3 GB", "ETA 00:44",
    ]  # fmt: skip


@pytest.mark.skipif(torch.cuda.is_available(), reason="the memory told is the GPU's")
def test_memory_is_that_of_this_process() -> None:
    before = peak_memory()
    assert 0.05 < before < 64
    held = torch.ones(2**29, dtype=torch.uint8)  # half a GB
    assert held[-1] == 1
    assert before <= peak_memory() < before + 1
    assert peak_memory() > 0.5
