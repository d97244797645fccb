"""Who may use the memory of the service: a bounded number of images, and no client for long without sending."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

from fastapi import HTTPException

from detector.serving import metrics
from detector.serving.errors import RETRY

QUICK_UPLOAD = 1.0  # seconds within which nobody takes the place of an upload


class Place:
    """Room for `count` images, until it is given back or taken away. upload: None once the body is complete."""

    def __init__(self, count: int, address: str) -> None:
        self.count, self.address, self.started = count, address, time.monotonic()
        self.upload: asyncio.Task[bytes] | None = None

    def is_slow(self, now: float) -> bool:
        """Whether its upload has lasted so long that another request may take the place."""
        return self.upload is not None and self.count > 0 and now - self.started > QUICK_UPLOAD


class Admission:
    """Bounds the images in progress to `capacity`, from the first byte of their upload to the response.

    When it is full, a new request takes the place of a slow upload: of those of the client address with most of them,
    the oldest. So nobody is kept out by clients that send slowly, however many connections they open.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity, self.in_progress = capacity, 0
        self._places: list[Place] = []  # oldest first

    @property
    def has_room(self) -> bool:
        """Whether one more image would be admitted."""
        return self.in_progress < self.capacity or self._find_slowest() is not None

    @contextmanager
    def admit(self, count: int, address: str) -> Iterator[Place]:
        """Room for `count` images of a client. Raises HTTPException 503 when there is none."""
        now = time.monotonic()
        reclaimable = sum(place.count for place in self._places if place.is_slow(now))
        fits = self.in_progress + count - reclaimable <= self.capacity  # otherwise nobody has to go
        while fits and self.in_progress + count > self.capacity and (slowest := self._find_slowest()):
            assert slowest.upload is not None
            slowest.upload.cancel()
            self._release(slowest)
        if self.in_progress + count > self.capacity:
            message = f"{self.in_progress} images are being processed, {self.capacity} are allowed: try again soon"
            raise HTTPException(503, message, headers=RETRY)
        place = Place(count, address)
        self._places.append(place)
        self._count(count)
        try:
            yield place
        finally:
            self._release(place)
            self._places.remove(place)

    async def receive(self, place: Place, body: Coroutine[Any, Any, bytes]) -> bytes:
        """The body of the request that has this place. Raises HTTPException 503 when another one takes the place."""
        place.upload = asyncio.ensure_future(body)
        try:
            return await place.upload
        except asyncio.CancelledError:
            if place.count:  # this request itself was cancelled
                raise
            message = "the queue is full, and this upload has taken long: try again later"
            raise HTTPException(503, message, headers=RETRY | {"Connection": "close"}) from None
        finally:
            place.upload = None

    def _find_slowest(self) -> Place | None:
        now = time.monotonic()
        slow = [place for place in self._places if place.is_slow(now)]
        per_address = Counter(place.address for place in slow)
        return max(slow, key=lambda place: per_address[place.address], default=None)  # the first of equal ones

    def _release(self, place: Place) -> None:
        self._count(-place.count)
        place.count = 0

    def _count(self, more: int) -> None:
        self.in_progress += more
        metrics.IN_PROGRESS.inc(more)
