"""From the body of a request to its answer: admitted, decoded in threads, computed in batches."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
from fastapi import HTTPException, Request
from starlette.requests import ClientDisconnect

from detector.core.errors import UserError
from detector.runners.tiled import ModelMetadata, Runner
from detector.serving import metrics
from detector.serving.batching import Batcher
from detector.serving.decoding import Seen, decode
from detector.serving.schemas import image_answer
from detector.serving.settings import Settings
from detector.serving.uploads import Upload, check_type, images_of, read_body

Result = TypeVar("Result")
RETRY = {"Retry-After": "1"}


class Service:
    """A model at work; made inside of a running event loop."""

    def __init__(self, facts: ModelMetadata, runner: Runner, settings: Settings) -> None:
        self.facts, self.settings = facts, settings
        self._in_work = 0
        self._pool = ThreadPoolExecutor(os.cpu_count() or 1, "decode")
        most = largest_batch(runner, facts, settings.batch)
        self._batcher = Batcher(runner, most, settings.wait_ms / 1000, metrics.report_batch)

    @property
    def ready(self) -> bool:
        """Whether a request would be answered now."""
        return self._batcher.alive and self._in_work < self.settings.queue

    async def close(self) -> None:
        """Once no request is left."""
        await self._batcher.close()
        self._pool.shutdown()

    async def predict(self, request: Request, threshold: float | None) -> list[dict[str, Any]]:
        """The `ImageAnswer`s of a request; `request.state.notes` gets what the log may say.

        Raises HTTPException with the fitting 4xx or 503, and ClientDisconnect.
        """
        settings = self.settings
        content_type = request.headers.get("content-type", "")
        check_type(content_type)
        with self._admitted(1):
            body = await read_body(request, settings.max_bytes, settings.upload_timeout)
            uploads = await self._in_pool(images_of, body, content_type, settings.max_images)
            request.state.notes |= {"bytes": len(body), "images": len(uploads)}
            del body
            with self._admitted(len(uploads) - 1):
                return await unless_gone(request, self._answer(uploads, threshold), settings.timeout)

    @contextmanager
    def _admitted(self, count: int) -> Iterator[None]:
        """The only bound of what is in memory. Raises HTTPException 503 when so many more images are too many."""
        if self._in_work + count > self.settings.queue:
            message = f"{self._in_work} images are in work, and {self.settings.queue} are allowed: try again soon"
            raise HTTPException(503, message, headers=RETRY)
        self._in_work += count
        metrics.IN_WORK.inc(count)
        try:
            yield
        finally:
            self._in_work -= count
            metrics.IN_WORK.dec(count)

    async def _answer(self, uploads: list[Upload], threshold: float | None) -> list[dict[str, Any]]:
        seen = await together(self._decoded(upload, number) for number, upload in enumerate(uploads, 1))
        uploads.clear()  # from here on only the small pictures are kept
        found = await together(self._batcher.find(one.letterboxed.pixels) for one in seen)
        return [image_answer(one, what, self.facts, threshold) for one, what in zip(seen, found, strict=True)]

    async def _decoded(self, upload: Upload, number: int) -> Seen:
        self._batcher.expected += 1
        try:
            return await self._in_pool(
                decode, upload, number, self.settings.max_pixels, self.facts.size, self.facts.fill
            )
        finally:
            self._batcher.expected -= 1

    async def _in_pool(self, action: Callable[..., Result], *arguments: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._pool, action, *arguments)


def largest_batch(runner: Runner, facts: ModelMetadata, wanted: int) -> int:
    """`wanted`, or 1 for a file that takes one image at a time. Also the model's first, slow run.

    Raises UserError for a file of another fixed batch: a service cannot wait until so many images have come.
    """
    blank = np.zeros((wanted, 3, *facts.size), np.uint8)
    try:
        runner(blank[:1])
    except UserError as error:
        raise UserError(f"{error}; a service needs a file with a dynamic batch, or with a batch of 1") from None
    try:
        runner(blank)
    except UserError:
        return 1
    return wanted


async def together(actions: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """All results; when one fails, the others are cancelled."""
    tasks = [asyncio.ensure_future(action) for action in actions]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def unless_gone(request: Request, action: Coroutine[Any, Any, Result], seconds: float) -> Result:
    """The result, unless the client goes away (ClientDisconnect) or it takes too long (HTTPException 503).

    The body must have been read: after it, a client has nothing more to say.
    """
    work, gone = asyncio.ensure_future(action), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({work, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
        if gone.done():
            raise ClientDisconnect
        raise HTTPException(503, f"no answer within {seconds:g} seconds: try again later", headers=RETRY)
    finally:
        work.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
