"""Too much at once, too slowly, or not to the end: nothing is lost that was begun, and nothing is kept."""

from __future__ import annotations

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.service import run_load, send_simultaneously
from benchmarks.service_process import Client, ServiceProcess, build_request, send_request
from detector.engine.detections import Detections
from tests.support.brightness import picture

Hosting = Callable[..., AbstractContextManager[int]]

SENT = build_request(picture(200, (640, 480), "JPEG"))
NO_LABELS, NO_SCORES = np.zeros(0, np.int64), np.zeros(0, np.float32)
NOTHING = Detections(np.zeros((0, 4)), NO_SCORES, NO_LABELS, NO_LABELS, NO_SCORES)


class Gate:
    """A model that answers when it may; `seen` counts its images after the two batches of its start."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.seen = -2

    def __call__(self, images: NDArray[np.uint8]) -> list[Detections]:
        self.open.wait(30)
        self.seen += len(images)
        return [NOTHING] * len(images)


def run(work: Coroutine[Any, Any, None]) -> None:
    """It does not wait for ever for what does not come."""
    asyncio.run(asyncio.wait_for(work, 60))


@pytest.fixture
def gate() -> Gate:
    return Gate()


def test_a_full_queue_says_when_to_come_again(hosted: Hosting, gate: Gate) -> None:
    async def work(port: int) -> None:
        gate.open.clear()
        waiting = [asyncio.ensure_future(send_request(port, SENT)) for _ in range(4)]
        while (await send_request(port, build_request(path="/readyz", method="GET"))).status == 200:
            await asyncio.sleep(0.01)
        refused = await send_request(port, SENT)
        assert refused.status == 503
        assert refused.headers["retry-after"] == "1"
        assert "4 images are being processed, 4 are allowed" in refused.json()["detail"]
        assert (await send_request(port, build_request(path="/healthz", method="GET"))).status == 200
        gate.open.set()
        assert [answer.status for answer in await asyncio.gather(*waiting)] == [200] * 4
        assert (await send_request(port, SENT)).status == 200

    with hosted(gate, queue=4, batch=1, max_images=4) as port:
        run(work(port))


def test_who_waits_too_long_is_told_so(hosted: Hosting, gate: Gate) -> None:
    async def work(port: int) -> None:
        gate.open.clear()
        late = await send_request(port, SENT)
        assert (late.status, late.headers["retry-after"]) == (503, "1")
        gate.open.set()
        assert (await send_request(port, SENT)).status == 200

    with hosted(gate, timeout=0.1, batch=1) as port:
        run(work(port))


def test_who_has_gone_is_not_computed(hosted: Hosting, gate: Gate) -> None:
    async def work(port: int) -> None:
        gate.open.clear()
        first = asyncio.ensure_future(send_request(port, SENT))
        async with Client(port) as gone:
            gone.writer.write(SENT)
            while (await send_request(port, build_request(path="/readyz", method="GET"))).status == 200:
                await asyncio.sleep(0.01)
        while (
            await send_request(port, build_request(path="/readyz", method="GET"))
        ).status == 503:  # its place is free
            await asyncio.sleep(0.01)
        gate.open.set()
        assert (await first).status == (await send_request(port, SENT)).status == 200

    with hosted(gate, queue=2, max_images=2, batch=1) as port:
        before = gate.seen
        run(work(port))
        assert gate.seen - before == 2


def test_an_upload_that_trickles(hosted: Hosting, gate: Gate) -> None:
    async def work(port: int) -> None:
        async with Client(port) as client:
            client.writer.write(SENT[:-1])
            refused = await client.read()
            assert refused.status == 408
            assert await client.reader.read() == b""  # closed
        assert (await send_request(port, SENT)).status == 200

    with hosted(gate, upload_timeout=0.2) as port:
        run(work(port))


@pytest.mark.parametrize("sent", [b"", b"POST /v1/predict HTTP/1.1\r\nX: ", build_request(bytes(2_000_000))[:100_000]])
def test_a_client_that_goes_on_for_ever(hosted: Hosting, gate: Gate, sent: bytes) -> None:
    """It says nothing, a head byte by byte, or the rest of a body that was refused: its connection is ended."""

    async def work(port: int) -> None:
        async with Client(port) as client:
            client.writer.write(sent)
            end = time.monotonic() + 20
            while not client.reader.at_eof() and time.monotonic() < end:
                if sent:
                    client.writer.write(b"x")
                try:
                    await asyncio.wait_for(client.reader.read(10_000), 0.1)
                except asyncio.TimeoutError:
                    continue
                except ConnectionResetError:
                    break
            assert time.monotonic() < end

    with hosted(gate, idle_timeout=1, max_bytes=1_000_000) as port:
        run(work(port))


def test_many_connections_at_once(served: ServiceProcess) -> None:
    """More than the queue holds: each is answered, or told to come again."""
    statuses = asyncio.run(send_simultaneously(served.port, SENT, 200))
    assert set(statuses) <= {200, 503}
    assert statuses[200] >= 20  # what the queue holds
    assert asyncio.run(send_request(served.port, SENT)).status == 200


def test_memory_stays(served: ServiceProcess) -> None:
    """Over 600 images of 900 kB decoded; the long form is `python -m benchmarks.service --leak 10000`."""
    cut = build_request(picture(200, (640, 480), "JPEG")[:-50])
    asyncio.run(run_load(served.port, [SENT, cut], 4, count=200))
    before = served.resident_bytes()
    load = asyncio.run(run_load(served.port, [SENT, cut], 4, count=600))
    assert load.statuses == {200: 300, 422: 300}
    assert served.resident_bytes() - before < 20_000_000


def test_a_stop_under_load_finishes_what_was_begun(model: Path) -> None:
    """Every request that was sent before SIGTERM is answered; then the process ends."""

    async def work(served: ServiceProcess) -> list[int]:
        clients = [Client(served.port) for _ in range(12)]
        for client in clients:
            await client.__aenter__()
            client.writer.write(SENT[:-1])
        await asyncio.sleep(0.2)  # the service has begun to read them
        served.process.send_signal(signal.SIGTERM)
        await asyncio.sleep(0.3)
        statuses = []
        for client in clients:
            client.writer.write(SENT[-1:])
            statuses.append((await client.read()).status)
            await client.__aexit__()
        return statuses

    with ServiceProcess(model) as served:
        assert asyncio.run(work(served)) == [200] * 12
        assert served.process.wait(30) == 0
        assert not [line for line in served.read_log() if "traceback" in line]
        with pytest.raises(ConnectionRefusedError):
            asyncio.run(send_request(served.port, SENT))
