"""Batches images of many requests for the model, which runs in a thread of its own."""

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
    arrived: float
    result: asyncio.Future[Detections]


class Batcher:
    """Collects images while the model is busy and runs it on up to `batch_size` at once.

    An image waits up to `wait` seconds for others, but only while `incoming` says that more are being read or
    decoded: a lone client never waits. Cancelled images are skipped. `report` gets each batch's size, the seconds that
    its images waited, and the seconds that the model took.
    """

    def __init__(
        self, runner: Runner, batch_size: int, wait: float, report: Callable[[int, list[float], float], None]
    ) -> None:
        self.incoming = 0
        self._runner, self._batch_size, self._wait, self._report = runner, batch_size, wait, report
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()  # the service bounds its length
        self._thread = ThreadPoolExecutor(1, "model")
        self._task = asyncio.get_running_loop().create_task(self._work())

    @property
    def alive(self) -> bool:
        """Whether images are still being processed."""
        return not self._task.done()

    async def predict(self, pixels: NDArray[np.uint8]) -> Detections:
        """The detections in an image uint8 [H, W, 3] of the model's input size, boxes in its pixels."""
        result: asyncio.Future[Detections] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(_Waiting(pixels, time.perf_counter(), result))
        return await result

    async def close(self) -> None:
        """Stop; images that still wait are cancelled."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        while not self._queue.empty():
            self._queue.get_nowait().result.cancel()
        self._thread.shutdown()

    async def _work(self) -> None:
        while True:
            batch = [one for one in await self._collect() if not one.result.done()]
            if batch:
                await self._run_batch(batch)

    async def _collect(self) -> list[_Waiting]:
        batch = [await self._queue.get()]
        end = time.perf_counter() + self._wait
        while len(batch) < self._batch_size:
            if self._queue.empty():
                left = end - time.perf_counter()
                if not self.incoming or left <= 0:
                    break
                try:
                    batch.append(await asyncio.wait_for(self._queue.get(), left))
                except asyncio.TimeoutError:
                    break
            else:
                batch.append(self._queue.get_nowait())
        return batch

    async def _run_batch(self, batch: list[_Waiting]) -> None:
        began = time.perf_counter()
        loop = asyncio.get_running_loop()
        try:
            found = await loop.run_in_executor(self._thread, _run, self._runner, [one.pixels for one in batch])
        except asyncio.CancelledError:
            for one in batch:
                one.result.cancel()
            raise
        except Exception as error:  # whatever the model raises fails this batch only
            for one in batch:
                if not one.result.done():
                    one.result.set_exception(error)
            return
        self._report(len(batch), [began - one.arrived for one in batch], time.perf_counter() - began)
        for one, detections in zip(batch, found, strict=True):
            if not one.result.done():
                one.result.set_result(detections)


def _run(runner: Runner, images: list[NDArray[np.uint8]]) -> list[Detections]:
    return runner(np.stack([image.transpose(2, 0, 1) for image in images]))
