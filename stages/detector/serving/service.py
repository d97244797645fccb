"""From the body of a request to its response: admission, decoding in threads, inference in batches."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
import time
from collections.abc import Callable, Coroutine, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, TypeVar

import numpy as np
from fastapi import HTTPException, Request
from numpy.typing import NDArray
from PIL import Image
from starlette.requests import ClientDisconnect

from detector.core.errors import UserError
from detector.core.pixels import LetterboxedImage
from detector.engine.detections import Detections
from detector.runners.model_metadata import ModelMetadata
from detector.runners.tiled import Runner, crop_window, merge_windows, undo_letterbox
from detector.runners.tiling import Tiling
from detector.serving import metrics
from detector.serving.admission import Admission
from detector.serving.batching import Batcher
from detector.serving.decoding import decode_upload, decode_upload_in_full
from detector.serving.errors import RETRY
from detector.serving.schemas import FoundObjects, build_image_response
from detector.serving.settings import Settings
from detector.serving.tensors import InferenceResponse, build_inference_response, parse_inference_request
from detector.serving.tile_option import parse_tile
from detector.serving.uploads import Upload, extract_uploads, read_body

CORES = os.cpu_count() or 1
Result = TypeVar("Result")


class PredictOptions(NamedTuple):
    """threshold: on the returned score; None: the operating threshold of each class. tiling: None: whole images."""

    threshold: float | None
    tiling: Tiling | None


class Service:
    """A loaded model that serves requests; created inside a running event loop."""

    def __init__(self, facts: ModelMetadata, runner: Runner, settings: Settings) -> None:
        self.facts, self.settings = facts, settings
        self.name = settings.model.stem  # as Triton names a model by its folder, so it stays when the file is replaced
        self.tiling = parse_tile(settings.tile, facts)  # of requests that name none
        self._admission = Admission(settings.queue)
        self._pool = ThreadPoolExecutor(CORES, "decode")
        self._full_size = asyncio.Semaphore(CORES)  # images in memory in full size, for their tiles
        self._running: dict[int, float] = {}  # thread: when its work began
        self._batch_size = find_batch_size(runner, facts, settings.batch)
        self._batcher = Batcher(runner, self._batch_size, settings.wait_ms / 1000, metrics.record_batch)

    @property
    def ready(self) -> bool:
        """Whether a request would be served now."""
        return self._batcher.alive and self._admission.has_room and self.longest_decode() < self.settings.timeout

    def check_ready(self) -> None:
        """Raise HTTPException 503 unless a request would be served now."""
        if not self.ready:
            raise HTTPException(503, "the queue is full, or the model has stopped", headers=RETRY)

    def longest_decode(self) -> float:
        """Seconds for which the slowest of the threads that decode has been at its image; called from any thread."""
        return max((time.monotonic() - began for began in list(self._running.values())), default=0.0)

    async def close(self) -> None:
        """Stop; call it when no request is left. A decode in progress still delays
        the end of the process, at most until the watchdog ends it.
        """
        await self._batcher.close()
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def predict(self, request: Request, options: PredictOptions) -> list[dict[str, Any]]:
        """The `ImageResponse`s of a request; fields for the log are added to `request.state.notes`.

        Raises HTTPException with 4xx or 503, and ClientDisconnect.
        """
        return await self._serve(request, functools.partial(self._predict_body, request, options))

    async def infer(self, request: Request, json_length: str | None, version: str) -> InferenceResponse:
        """The response to input tensors; see `tensors`. Admission, limits, batches and exceptions as for `predict`."""
        return await self._serve(request, functools.partial(self._infer_body, request, json_length, version))

    async def _serve(self, request: Request, answer: Callable[[bytes], Coroutine[Any, Any, Result]]) -> Result:
        """Read the body and answer it, within the limits of the service."""
        settings = self.settings
        address = request.client.host if request.client else ""
        with self._admission.admit(1, address) as place:
            body = await self._admission.receive(place, read_body(request, settings.max_bytes, settings.upload_timeout))
            request.state.notes["bytes"] = len(body)
            work = answer(body)
            del body
            return await run_unless_disconnected(request, work, settings.timeout)

    async def _predict_body(self, request: Request, options: PredictOptions, body: bytes) -> list[dict[str, Any]]:
        content_type = request.headers.get("content-type", "")
        uploads = await self._run_in_pool(extract_uploads, body, content_type, self.settings.max_images)
        del body
        request.state.notes["images"] = len(uploads)
        with self._admission.admit(len(uploads) - 1, ""):
            detect = self._detect_in_tiles if options.tiling else self._detect_whole
            images = await detect(uploads, options)
            return [build_image_response(image, self.facts, options.threshold) for image in images]

    async def _infer_body(
        self, request: Request, json_length: str | None, version: str, body: bytes
    ) -> InferenceResponse:
        asked = await self._run_in_pool(
            parse_inference_request, body, json_length, self.facts, self.settings.max_images
        )
        del body
        request.state.notes["images"] = len(asked.images)
        with self._admission.admit(len(asked.images) - 1, ""):
            inputs = asked.images.transpose(0, 2, 3, 1)
            found = await gather_or_cancel(self._batcher.predict(pixels) for pixels in inputs)
            return build_inference_response(asked, found, self.facts, self.name, version)

    async def _detect_whole(self, uploads: list[Upload], options: PredictOptions) -> list[FoundObjects]:
        size, fill, most = self.facts.size, self.facts.fill, self.settings.max_pixels
        images = await gather_or_cancel(
            self._prepare(decode_upload, upload, number, most, size, fill) for number, upload in enumerate(uploads, 1)
        )
        uploads.clear()  # from here on only the letterboxed images are kept
        found = await gather_or_cancel(self._detect(image.letterboxed) for image in images)
        return [FoundObjects(*image[:3], detections) for image, detections in zip(images, found, strict=True)]

    async def _detect_in_tiles(self, uploads: list[Upload], options: PredictOptions) -> list[FoundObjects]:
        return await gather_or_cancel(
            self._detect_image_in_tiles(upload, number, options) for number, upload in enumerate(uploads, 1)
        )

    async def _detect_image_in_tiles(self, upload: Upload, number: int, options: PredictOptions) -> FoundObjects:
        """One batch of tiles after the other: images of other requests wait for few, and few inputs are in memory."""
        settings, tiling = self.settings, options.tiling
        async with self._full_size:
            image, windows = await self._prepare(
                decode_upload_in_full, upload, number, settings.max_pixels, tiling, settings.max_tiles
            )
            views: list[Detections] = []
            for start in range(0, len(windows), self._batch_size):
                some = windows[start : start + self._batch_size]
                inputs = await self._prepare(self._crop_windows, image, some)
                views += await gather_or_cancel(self._detect(one) for one in inputs)
        most = self.facts.max_detections * len(windows)
        found = await self._run_in_pool(merge_windows, views, windows, tiling, self.facts.nms_iou, most)
        return FoundObjects(upload.name, *image.size, found)

    def _crop_windows(self, image: Image.Image, windows: NDArray[np.int64]) -> list[LetterboxedImage]:
        return [crop_window(image, window, self.facts) for window in windows]

    async def _detect(self, image: LetterboxedImage) -> Detections:
        return undo_letterbox(await self._batcher.predict(image.pixels), image)

    async def _prepare(self, action: Callable[..., Result], *arguments: object) -> Result:
        """Run what makes inputs of the model, for which it may wait a moment."""
        self._batcher.incoming += 1
        try:
            return await self._run_in_pool(action, *arguments)
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
