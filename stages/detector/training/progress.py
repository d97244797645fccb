"""Progress of a training on the terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import NamedTuple, TypeVar

import torch
from tqdm import tqdm

Item = TypeVar("Item")


class WaitTimer:
    """Adds up the seconds spent waiting for items."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def time_items(self, items: Iterator[Item]) -> Iterator[Item]:
        """Yield the same items."""
        while True:
            start = time.monotonic()
            try:
                item = next(items)
            except StopIteration:
                return
            self.seconds += time.monotonic() - start
            yield item


class EpochTiming(NamedTuple):
    """Seconds of training (including waiting for batches) and validation; batches trained, and batches per epoch."""

    training: float
    waiting: float
    validation: float
    batches: int
    batches_per_epoch: int


def format_epoch(
    epoch: int,
    epochs: int,
    *,
    loss: float,
    lr: float,
    validation: dict[str, float],
    timing: EpochTiming,
    images_per_batch: int,
    memory_gb: float,
) -> str:
    """Format the line printed at the end of an epoch (from 1)."""
    seconds = max(timing.training, 1e-9)
    epoch_seconds = seconds * timing.batches_per_epoch / max(1, timing.batches)
    remaining = (epochs - epoch) * (epoch_seconds + timing.validation)
    return (
        f"epoch {epoch:3}/{epochs}  loss {loss:.3f}  val loss {validation['loss']:.3f}  "
        f"AP {validation['AP']:.3f}  AP50 {validation['AP50']:.3f}  lr {lr:.2g}  "
        f"{timing.batches * images_per_batch / seconds:.0f} images/s  "
        f"data {timing.waiting / seconds:.0%}  memory {memory_gb:.1f} GB  ETA {tqdm.format_interval(remaining)}"
    )


def peak_memory_gb() -> float:
    """Return the peak memory of this process so far in GB: of its GPU if it has one, else of the machine."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    import resource  # missing on Windows, where the rest of the library should still be importable

    unit = 1 if sys.platform == "darwin" else 2**10  # of ru_maxrss
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
