"""Time spent per part of an evaluation."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from detector.engine.structures import BatchDetections
from detector.models.postprocess import Postprocess

Item = TypeVar("Item")


class Clock:
    """seconds: total time per part."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def track(self, name: str) -> Iterator[None]:
        """Add the time of the block to `name`; waits for a GPU at both ends."""
        start = _now()
        yield
        self.seconds[name] += _now() - start

    def track_iteration(self, items: Iterable[Item], name: str) -> Iterator[Item]:
        """Yield the items; the time that each takes to arrive is added to `name`."""
        iterator = iter(items)
        while True:
            with self.track(name):
                item = next(iterator, None)
            if item is None:
                return
            yield item

    def track_calls(self, model: nn.Module, name: str) -> None:
        """From now on, add the time of calls of `model` to `name`."""
        starts: list[float] = []
        model.register_forward_pre_hook(lambda *_: starts.append(_now()))

        def stop(*_: Any) -> None:
            self.seconds[name] += _now() - starts.pop()

        model.register_forward_hook(stop)


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


@dataclass(frozen=True)
class TimedPostprocess(Postprocess):
    """The same postprocessing, timed as `postprocess`."""

    clock: Clock = field(default_factory=Clock)

    def __call__(self, boxes_xyxy: Tensor, class_scores: Tensor, state_logits: Tensor | None = None) -> BatchDetections:
        with self.clock.track("postprocess"):
            return super().__call__(boxes_xyxy, class_scores, state_logits)

    def select_without_nms(
        self, boxes_xyxy: Tensor, class_scores: Tensor, state_logits: Tensor | None = None
    ) -> BatchDetections:
        with self.clock.track("postprocess"):
            return super().select_without_nms(boxes_xyxy, class_scores, state_logits)


def summarize_times(clock: Clock, images: int, total: float) -> dict[str, float]:
    """Images per second, and milliseconds per image by part; `other` is the rest of the `total` seconds."""
    parts = dict(clock.seconds)
    parts["model"] = parts.get("model", 0.0) - parts.get("postprocess", 0.0)
    parts["other"] = total - sum(parts.values())
    return {
        "images_per_second": round(images / total, 2),
        **{f"{name}_ms": round(seconds / images * 1000, 3) for name, seconds in sorted(parts.items())},
    }
