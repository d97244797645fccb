"""From the body of a request to its response: admission, decoding in threads, inference in batches."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from fastapi import HTTPException, Request
from starlette.requests import ClientDisconnect

from detector.core.errors import UserError
from detector.runners.tiled import ModelMetadata, Runner
from detector.serving import metrics
from detector.serving.admission import RETRY, Admission
from detector.serving.batching import Batcher
from detector.serving.decoding import UploadedImage, decode_upload
from detector.serving.schemas import build_image_response
from detector.serving.settings import Settings
from detector.serving.uploads import Upload, check_content_type, extract_uploads, read_body

Result = TypeVar("Result")


class Service:
    """A loaded model that serves requests; created inside a running event loop."""

    def __init__(self, facts: ModelMetadata, runner: Runner, settings: Settings) -> None:
        self.facts, self.settings = facts, settings
        self._admission = Admission(settings.queue)
        self._pool = ThreadPoolExecutor(os.cpu_count() or 1, "decode")
        self._running: dict[int, float] = {}  # thread: when its work began
        batch_size = find_batch_size(runner, facts, settings.batch)
        self._batcher = Batcher(runner, batch_size, settings.wait_ms / 1000, metrics.record_batch)

    @property
    def ready(self) -> bool:
        """Whether a request would be served now."""
        return self._batcher.alive and self._admission.has_room and self.longest_decode() < self.settings.timeout

    def longest_decode(self) -> float:
        """Seconds for which the slowest of the threads that decode has been at its image; called from any thread."""
        return max((time.monotonic() - began for began in list(self._running.values())), default=0.0)

    async def close(self) -> None:
        """Stop; call it when no request is left. A decode in progress still delays
        the end of the process, at most until the watchdog ends it.
        """
        await self._batcher.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def predict(self, request: Request, threshold: float | None) -> list[dict[str, Any]]:
        """The `ImageResponse`s of a request; fields for the log are added to `request.state.notes`.

        Raises HTTPException with 4xx or 503, and ClientDisconnect.
        """
        settings = self.settings
        check_content_type(request.headers.get("content-type", ""))
        address = request.client.host if request.client else ""
        with self._admission.admit(1, address) as place:
            body = await self._admission.receive(place, read_body(request, settings.max_bytes, settings.upload_timeout))
            request.state.notes["bytes"] = len(body)
            work = self._predict_body(request, body, threshold)
            del body
            return await run_unless_disconnected(request, work, settings.timeout)

    async def _predict_body(self, request: Request, body: bytes, threshold: float | None) -> list[dict[str, Any]]:
        content_type = request.headers.get("content-type", "")
        uploads = await self._run_in_pool(extract_uploads, body, content_type, self.settings.max_images)
        del body
        request.state.notes["images"] = len(uploads)
        with self._admission.admit(len(uploads) - 1, ""):
            return await self._predict_uploads(uploads, threshold)

    async def _predict_uploads(self, uploads: list[Upload], threshold: float | None) -> list[dict[str, Any]]:
        images = await gather_or_cancel(self._decode(upload, number) for number, upload in enumerate(uploads, 1))
        uploads.clear()  # from here on only the letterboxed images are kept
        detections = await gather_or_cancel(self._batcher.predict(image.letterboxed.pixels) for image in images)
        return [
            build_image_response(image, found, self.facts, threshold)
            for image, found in zip(images, detections, strict=True)
        ]

    async def _decode(self, upload: Upload, number: int) -> UploadedImage:
        self._batcher.incoming += 1
        try:
            return await self._run_in_pool(
                decode_upload, upload, number, self.settings.max_pixels, self.facts.size, self.facts.fill
            )
        finally:
            self._batcher.incoming -= 1

    async def _run_in_pool(self, action: Callable[..., Result], *arguments: object) -> Result:
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._run_timed, action, *arguments)

    def _run_timed(self, action: Callable[..., Result], *arguments: object) -> Result:
        thread = threading.get_ident()
        self._running[thread] = time.monotonic()
        try:
            return action(*arguments)
        finally:
            del self._running[thread]


def find_batch_size(runner: Runner, facts: ModelMetadata, wanted: int) -> int:
    """`wanted`, or 1 for a model with a fixed batch size of 1. Also warms the model up.

    Raises UserError for any other fixed batch size: a service cannot wait for that many images.
    """
    blank = np.zeros((wanted, 3, *facts.size), np.uint8)
    try:
        runner(blank[:1])
    except UserError as error:
        raise UserError(f"{error}; the service needs a model with a dynamic batch, or a batch size of 1") from None
    try:
        runner(blank)
    except UserError:
        return 1
    return wanted


async def gather_or_cancel(actions: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Await all results; when one fails, cancel the others."""
    tasks = [asyncio.ensure_future(action) for action in actions]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def run_unless_disconnected(request: Request, action: Coroutine[Any, Any, Result], seconds: float) -> Result:
    """The result, unless the client disconnects (ClientDisconnect) or the deadline passes (HTTPException 503).

    The body must have been read before: after it, the client sends nothing but a disconnect.
    """
    work, disconnect = asyncio.ensure_future(action), asyncio.ensure_future(_wait_for_disconnect(request))
    try:
        await asyncio.wait({work, disconnect}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if work.done():
            return work.result()
        if disconnect.done():
            raise ClientDisconnect
        raise HTTPException(503, f"no response within {seconds:g} seconds: try again later", headers=RETRY)
    finally:
        work.cancel()
        disconnect.cancel()


async def _wait_for_disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
