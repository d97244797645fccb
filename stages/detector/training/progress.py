"""What a training says of itself on the terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import NamedTuple, TypeVar

import torch
from tqdm import tqdm

Item = TypeVar("Item")


class Waiting:
    """Passes items on and adds up the seconds that it waited for them."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def watch(self, items: Iterator[Item]) -> Iterator[Item]:
        """The same items."""
        while True:
            began = time.monotonic()
            try:
                item = next(items)
            except StopIteration:
                return
            self.seconds += time.monotonic() - began
            yield item


class Spent(NamedTuple):
    """Of an epoch: seconds of training, of these waiting for batches, of validation; batches trained, of how many."""

    training: float
    waiting: float
    validation: float
    batches: int
    all_batches: int


def epoch_line(
    epoch: int,
    epochs: int,
    loss: float,
    lr: float,
    validation: dict[str, float],
    images: int,
    spent: Spent,
    memory: float,
) -> str:
    """The line that an epoch (from 1) ends with; images: of a batch; memory: in GB."""
    seconds = max(spent.training, 1e-9)
    whole = seconds * spent.all_batches / max(1, spent.batches)
    left = (epochs - epoch) * (whole + spent.validation)
    return (
        f"epoch {epoch:3}/{epochs}  loss {loss:.3f}  val loss {validation['loss']:.3f}  "
        f"AP {validation['AP']:.3f}  AP50 {validation['AP50']:.3f}  lr {lr:.2g}  "
        f"{spent.batches * images / seconds:.0f} images/s  "
        f"data {spent.waiting / seconds:.0%}  memory {memory:.1f} GB  ETA {tqdm.format_interval(left)}"
    )


def peak_memory() -> float:
    """GB that this process has needed at most so far: of its GPU's memory if it has one, else of the machine's."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**30
    import resource  # not on Windows, where the rest of the library should still be importable

    unit = 1 if sys.platform == "darwin" else 2**10  # of what getrusage tells
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30
