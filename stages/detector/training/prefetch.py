"""Batches that are on the GPU before the step needs them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch

from detector.engine.dataset import Batch
from detector.training.batch_augmentation import finish_batch


def move_ahead(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Yield the batches on the device, augmented; on a GPU the next one is copied while the current one is trained on.

    The copies from pinned memory and the augmentation run on a stream of their own.
    """
    if device.type != "cuda":
        for batch in batches:
            yield finish_batch(batch, device)
        return
    stream = torch.cuda.Stream(device)
    ahead: Batch | None = None
    for batch in batches:
        with torch.cuda.stream(stream):
            following = finish_batch(batch, device)
        if ahead is not None:
            yield ahead
        ahead = _hand_over(following, stream)
    if ahead is not None:
        yield ahead


def _hand_over(batch: Batch, stream: torch.cuda.Stream) -> Batch:
    """Make the current stream wait for what `stream` has started, and keep the memory until both are done with it."""
    current = torch.cuda.current_stream(stream.device)
    current.wait_stream(stream)
    for tensor in (batch.images, *batch.targets):
        tensor.record_stream(current)
    return batch
