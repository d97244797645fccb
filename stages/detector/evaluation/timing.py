"""Where the time of an evaluation goes."""

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
    """seconds: by part."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What runs inside counts as `name`; waits for a GPU at both ends."""
        began = _now()
        yield
        self.seconds[name] += _now() - began

    def fetching(self, items: Iterable[Item], name: str) -> Iterator[Item]:
        """The same items; the time until each is there counts as `name`."""
        iterator = iter(items)
        while True:
            with self.part(name):
                item = next(iterator, None)
            if item is None:
                return
            yield item

    def watch(self, model: nn.Module, name: str) -> None:
        """From now on, calls of `model` count as `name`."""
        began: list[float] = []
        model.register_forward_pre_hook(lambda *_: began.append(_now()))

        def stop(*_: Any) -> None:
            self.seconds[name] += _now() - began.pop()

        model.register_forward_hook(stop)


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


@dataclass(frozen=True)
class TimedPostprocess(Postprocess):
    """The same, with its time counted as `postprocess`."""

    clock: Clock = field(default_factory=Clock)

    def __call__(self, boxes_xyxy: Tensor, class_scores: Tensor, state_logits: Tensor | None = None) -> BatchDetections:
        with self.clock.part("postprocess"):
            return super().__call__(boxes_xyxy, class_scores, state_logits)

    def without_nms(
        self, boxes_xyxy: Tensor, class_scores: Tensor, state_logits: Tensor | None = None
    ) -> BatchDetections:
        with self.clock.part("postprocess"):
            return super().without_nms(boxes_xyxy, class_scores, state_logits)


def speed(clock: Clock, images: int, total: float) -> dict[str, float]:
    """Images a second and milliseconds an image: decode, model, postprocess and the rest of `total` seconds."""
    parts = dict(clock.seconds)
    parts["model"] = parts.get("model", 0.0) - parts.get("postprocess", 0.0)
    parts["other"] = total - sum(parts.values())
    return {
        "images_per_second": round(images / total, 2),
        **{f"{name}_ms": round(seconds / images * 1000, 3) for name, seconds in sorted(parts.items())},
    }
