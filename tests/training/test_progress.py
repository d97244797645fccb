"""The line printed after each epoch."""

from __future__ import annotations

import pytest
import torch

from detector.training.progress import EpochTiming, format_epoch, peak_memory_gb


def test_the_line_of_an_epoch() -> None:
    timing = EpochTiming(training=10.0, waiting=0.5, validation=2.0, batches=5, batches_per_epoch=10)
    validation = {"loss": 2, "AP": 0.5, "AP50": 0.75}
    line = format_epoch(
        2, 4, loss=1.25, lr=0.01, validation=validation, timing=timing, images_per_batch=8, memory_gb=1.26
    )
    assert line == (
        "epoch   2/4  loss 1.250  val loss 2.000  AP 0.500  AP50 0.750  lr 0.01  4 images/s  data 5%  "
        "memory 1.3 GB  ETA 00:44"
    )


@pytest.mark.skipif(torch.cuda.is_available(), reason="the reported memory is the GPU's")
def test_memory_is_that_of_this_process() -> None:
    before = peak_memory_gb()
    assert 0.05 < before < 64
    held = torch.ones(2**29, dtype=torch.uint8)  # half a GB
    assert held[-1] == 1
    assert before <= peak_memory_gb() < before + 1
    assert peak_memory_gb() > 0.5
