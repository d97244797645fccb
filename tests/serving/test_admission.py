"""Who gets the last place, and who loses one."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from fastapi import HTTPException

from detector.serving import admission
from detector.serving.admission import Admission


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in seconds, which a test may change."""
    now = [0.0]
    monkeypatch.setattr(admission.time, "monotonic", lambda: now[0])
    return now


async def upload(places: Admission, address: str, body: asyncio.Future[bytes]) -> bytes | int:
    """The body, or the status of the refusal."""

    async def receive() -> bytes:
        return await body

    try:
        with places.admit(1, address) as place:
            return await places.receive(place, receive())
    except HTTPException as error:
        return error.status_code if error.headers and error.headers["Retry-After"] == "1" else -1


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(work, 20))


def test_a_quick_upload_keeps_its_place() -> None:
    async def work() -> None:
        places, body = Admission(1), asyncio.get_running_loop().create_future()
        first = asyncio.ensure_future(upload(places, "a", body))
        await asyncio.sleep(0)
        assert not places.has_room
        assert await upload(places, "b", body) == 503
        body.set_result(b"image")
        assert await first == b"image"
        assert places.has_room
        assert places.in_progress == 0

    run(work())


def test_the_oldest_slow_upload_of_the_busiest_client_makes_way(clock: list[float]) -> None:
    async def work() -> None:
        places, loop = Admission(4), asyncio.get_running_loop()
        bodies = [loop.create_future() for _ in range(5)]
        uploads = []
        for address, body in zip("abbc", bodies, strict=False):
            uploads.append(asyncio.ensure_future(upload(places, address, body)))
            await asyncio.sleep(0)
        clock[0] = 1.5
        assert places.has_room
        uploads.append(asyncio.ensure_future(upload(places, "b", bodies[4])))
        await asyncio.sleep(0)
        assert await uploads[1] == 503
        for number, body in enumerate(bodies):
            if number != 1:
                body.set_result(b"%d" % number)
        assert await asyncio.gather(*uploads[:1], *uploads[2:]) == [b"0", b"2", b"3", b"4"]
        assert places.in_progress == 0

    run(work())


def test_what_is_being_processed_keeps_its_place(clock: list[float]) -> None:
    async def work() -> None:
        places, body = Admission(1), asyncio.get_running_loop().create_future()
        body.set_result(b"image")
        with places.admit(1, "a") as place:
            assert await places.receive(place, body_of(body)) == b"image"
            clock[0] = 100
            assert not places.has_room
            assert await upload(places, "b", body) == 503
        assert await upload(places, "b", body) == b"image"

    run(work())


async def body_of(body: asyncio.Future[bytes]) -> bytes:
    return await body


def test_a_request_of_many_images_takes_as_many_places(clock: list[float]) -> None:
    async def work() -> None:
        places, loop = Admission(4), asyncio.get_running_loop()
        slow = [asyncio.ensure_future(upload(places, "a", loop.create_future())) for _ in range(3)]
        await asyncio.sleep(0)
        clock[0] = 2
        with places.admit(3, "b"):
            assert places.in_progress == 4
            assert await asyncio.gather(*slow[:2]) == [503, 503]
            assert not slow[2].done()
        slow[2].cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow[2]
        assert places.in_progress == 0

    run(work())
