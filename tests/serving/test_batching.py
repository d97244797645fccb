"""Images of many callers in one batch: each gets its own answer, and nobody waits longer than was said."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from detector.engine.detections import Detections
from detector.serving.batching import Batcher


class Model:
    """Answers each image's first value as its score; waits at `gate` before each batch, and keeps the sizes."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.gate = threading.Event()
        self.gate.set()
        self.error: Exception | None = None

    def __call__(self, images: NDArray[np.uint8]) -> list[Detections]:
        self.gate.wait(30)
        self.sizes.append(len(images))
        if self.error:
            raise self.error
        scores, ones = images[:, 0, 0, :1].astype(np.float32), np.ones(1, np.int64)
        return [Detections(np.zeros((1, 4)), score, ones, ones, ones.astype(np.float32)) for score in scores]


def image(value: int) -> NDArray[np.uint8]:
    return np.full((2, 2, 3), value, np.uint8)


def run(model: Model, most: int, wait: float, work: Callable[[Batcher], Coroutine[Any, Any, None]]) -> list[Any]:
    """What was reported of the batches."""
    reports: list[Any] = []

    async def main() -> None:
        batcher = Batcher(model, most, wait, lambda *report: reports.append(report))
        await work(batcher)
        await batcher.close()
        assert not batcher.alive

    asyncio.run(main())
    return reports


def test_each_gets_its_own_answer_in_batches_of_at_most_so_many() -> None:
    async def work(batcher: Batcher) -> None:
        found = await asyncio.gather(*(batcher.predict(image(value)) for value in range(50)))
        assert [one.scores.tolist() for one in found] == [[value] for value in range(50)]

    model = Model()
    reports = run(model, 8, 0, work)
    assert sum(model.sizes) == 50
    assert max(model.sizes) == 8
    assert [size for size, _, _ in reports] == model.sizes
    assert all(len(waited) == size and min(waited) >= 0 and seconds >= 0 for size, waited, seconds in reports)


def test_who_is_alone_does_not_wait() -> None:
    async def work(batcher: Batcher) -> None:
        await asyncio.wait_for(batcher.predict(image(1)), 20)

    run(Model(), 8, 1e9, work)


def test_who_is_expected_is_waited_for() -> None:
    async def work(batcher: Batcher) -> None:
        batcher.incoming = 1
        first = asyncio.ensure_future(batcher.predict(image(1)))
        await asyncio.sleep(0.02)
        assert not first.done()
        await asyncio.gather(first, batcher.predict(image(2)))

    model = Model()
    run(model, 2, 1e9, work)
    assert model.sizes == [2]


def test_but_not_longer_than_was_said() -> None:
    async def work(batcher: Batcher) -> None:
        batcher.incoming = 1
        await batcher.predict(image(1))

    model = Model()
    run(model, 2, 0.01, work)
    assert model.sizes == [1]


def test_what_was_cancelled_is_not_computed() -> None:
    model = Model()

    async def work(batcher: Batcher) -> None:
        model.gate.clear()
        first = asyncio.ensure_future(batcher.predict(image(1)))
        await asyncio.sleep(0.02)  # the model is busy with it
        others = [asyncio.ensure_future(batcher.predict(image(value))) for value in (2, 3)]
        await asyncio.sleep(0)
        others[0].cancel()
        model.gate.set()
        assert [(await one).scores.tolist() for one in (first, others[1])] == [[1], [3]]

    run(model, 8, 0, work)
    assert model.sizes == [1, 1]


def test_an_error_of_the_model_is_the_answer_of_one_batch() -> None:
    model = Model()

    async def work(batcher: Batcher) -> None:
        model.error = RuntimeError("out of memory")
        with pytest.raises(RuntimeError, match="out of memory"):
            await batcher.predict(image(1))
        model.error = None
        assert (await batcher.predict(image(2))).scores.tolist() == [2]

    assert len(run(model, 8, 0, work)) == 1  # the failed one is not counted


def test_the_end_leaves_nobody_waiting() -> None:
    model = Model()

    async def work(batcher: Batcher) -> None:
        model.gate.clear()
        waiting = [asyncio.ensure_future(batcher.predict(image(value))) for value in range(3)]
        await asyncio.sleep(0.02)
        model.gate.set()
        await batcher.close()
        await asyncio.wait(waiting, timeout=20)
        assert all(one.done() for one in waiting)

    run(model, 1, 0, work)
