"""Images of many requests put together for the model, which runs in a thread of its own."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.engine.detections import Detections
from detector.runners.tiled import Runner


class _Waiting(NamedTuple):
    pixels: NDArray[np.uint8]  # [H, W, 3]
    since: float
    answer: asyncio.Future[Detections]


class Batcher:
    """Collects images while the model is busy and gives it up to `most` at once.

    An image waits up to `wait` seconds for company, but only while `expected` says that more are on their way: a lone
    client never waits. What was cancelled meanwhile is not computed. `report` gets each batch's size, the seconds that
    its images waited, and the seconds that the model took.
    """

    def __init__(
        self, runner: Runner, most: int, wait: float, report: Callable[[int, list[float], float], None]
    ) -> None:
        self.expected = 0
        self._runner, self._most, self._wait, self._report = runner, most, wait, report
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()  # the service bounds what comes in
        self._thread = ThreadPoolExecutor(1, "model")
        self._task = asyncio.get_running_loop().create_task(self._work())

    @property
    def alive(self) -> bool:
        """Whether images are still being answered."""
        return not self._task.done()

    async def find(self, pixels: NDArray[np.uint8]) -> Detections:
        """What is found in an image uint8 [H, W, 3] of the model's size, boxes in its pixels."""
        answer: asyncio.Future[Detections] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(_Waiting(pixels, time.perf_counter(), answer))
        return await answer

    async def close(self) -> None:
        """Stop; who still waits is cancelled."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        while not self._queue.empty():
            self._queue.get_nowait().answer.cancel()
        self._thread.shutdown()

    async def _work(self) -> None:
        while True:
            batch = [one for one in await self._collect() if not one.answer.done()]
            if batch:
                await self._answer(batch)

    async def _collect(self) -> list[_Waiting]:
        batch = [await self._queue.get()]
        end = time.perf_counter() + self._wait
        while len(batch) < self._most:
            if self._queue.empty():
                left = end - time.perf_counter()
                if not self.expected or left <= 0:
                    break
                try:
                    batch.append(await asyncio.wait_for(self._queue.get(), left))
                except asyncio.TimeoutError:
                    break
            else:
                batch.append(self._queue.get_nowait())
        return batch

    async def _answer(self, batch: list[_Waiting]) -> None:
        began = time.perf_counter()
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._thread, _run, self._runner, [one.pixels for one in batch])
        except asyncio.CancelledError:
            for one in batch:
                one.answer.cancel()
            raise
        except Exception as error:  # whatever the model raises is the answer of this batch only
            for one in batch:
                if not one.answer.done():
                    one.answer.set_exception(error)
            return
        self._report(len(batch), [began - one.since for one in batch], time.perf_counter() - began)
        for one, answer in zip(batch, found, strict=True):
            if not one.answer.done():
                one.answer.set_result(answer)


def _run(runner: Runner, images: list[NDArray[np.uint8]]) -> list[Detections]:
    return runner(np.stack([image.transpose(2, 0, 1) for image in images]))
