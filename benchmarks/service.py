"""Measure what the service costs beside its model, and what it bears.

command  python -m benchmarks.service MODEL [--seconds S] [--leak N]        (or `make bench-service`)
reads    an exported ONNX file
writes   nothing
time     about 2 minutes; with --leak 10000 as long as so many images take

Service, clients and the model that it is compared with share this machine's cores. The model has one thread in the
service and beside it, so that a second core is there for HTTP, decoding and the clients.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.photographs import photograph
from benchmarks.served import Client, Served, ask, request
from benchmarks.table import Row, at_least, markdown
from benchmarks.timing import say, timed
from detector.core.errors import run_command
from detector.core.images import letterbox
from detector.engine.environment import keep_freed_memory
from detector.runners.onnx_runner import open_onnx
from detector.runners.tiled import ModelMetadata, Runner

THREADS = 1
BATCH = 8
CLIENTS = 32
CONNECTIONS = 1000
PAIRS = 300
PHOTOGRAPHS = 16
OVERHEAD = 0.005  # seconds
SHARE = 0.9
GROWTH = 0.05  # of memory


class Load(NamedTuple):
    """seconds: of each answer. wall: of all. statuses: how many answers of each."""

    seconds: list[float]
    wall: float
    statuses: dict[int, int]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", type=Path, nargs="?", default=Path("models/model.onnx"))
    parser.add_argument("--seconds", type=float, default=60, help="of the load by 32 clients")
    parser.add_argument("--leak", type=int, default=0, help="requests during which memory is watched")
    given = parser.parse_args()
    keep_freed_memory()
    facts, runner = open_onnx(given.model, THREADS)
    rows: list[Row] = []
    try:
        with Served(given.model, "--threads", str(THREADS), "--batch", str(BATCH)) as served:
            rows.extend(measure(served, facts, runner, given.seconds, given.leak))
    finally:  # what was measured before an error or Ctrl-C is shown too
        print(markdown(rows))


def measure(served: Served, facts: ModelMetadata, runner: Runner, seconds: float, leak: int) -> Iterator[Row]:
    """All rows."""
    jpegs = [jpeg(number) for number in range(PHOTOGRAPHS)]
    say("one client")
    yield overhead_row(served, facts, runner, jpegs)
    say(f"{CLIENTS} clients")
    yield from load_rows(served, facts, runner, jpegs, seconds)
    say(f"{CONNECTIONS} connections")
    yield connections_row(served, jpegs[0])
    if leak:
        say(f"{leak} requests")
        yield leak_row(served, jpegs, leak)


def jpeg(seed: int) -> bytes:
    """A photograph of 640 x 480."""
    file = io.BytesIO()
    photograph(seed).save(file, "JPEG", quality=85)
    return file.getvalue()


def fitted(content: bytes, facts: ModelMetadata) -> NDArray[np.uint8]:
    """Decoded as the service does it: uint8 [3, H, W]."""
    return letterbox(Image.open(io.BytesIO(content)), facts.size, facts.fill).pixels.transpose(2, 0, 1)


def overhead_row(served: Served, facts: ModelMetadata, runner: Runner, jpegs: list[bytes]) -> Row:
    """The same images in turn over HTTP and in this process, decoded and given to the model one by one."""

    async def pairs() -> list[tuple[float, float]]:
        times: list[tuple[float, float]] = []
        async with Client(served.port) as client:
            for number in range(PAIRS):
                content = jpegs[number % len(jpegs)]
                beside = timed(lambda content=content: runner(fitted(content, facts)[None]))  # type: ignore[misc]
                start = time.perf_counter()
                assert (await client.send(request(content))).status == 200
                times.append((time.perf_counter() - start, beside))
        return times[PAIRS // 10 :]

    times = asyncio.run(pairs())
    here, beside = (median(column) for column in zip(*times, strict=True))
    more = median(one - other for one, other in times)
    return Row(
        "service, one client, 640×480 JPEG: p50", f"{here * 1000:.1f} ms", f"{beside * 1000:.1f} ms decode + model",
        f"{more * 1000:+.1f} ms", f"< {OVERHEAD * 1000:g} ms", more < OVERHEAD,
    )  # fmt: skip


def load_rows(
    served: Served, facts: ModelMetadata, runner: Runner, jpegs: list[bytes], seconds: float
) -> Iterator[Row]:
    """Throughput beside the model alone, which is measured before and after."""
    batch = np.stack([fitted(content, facts) for content in jpegs[:BATCH]])
    before = model_rate(runner, batch)
    load = asyncio.run(under_load(served.port, [request(content) for content in jpegs], CLIENTS, seconds))
    alone = median([before, model_rate(runner, batch)])
    rate = load.statuses.get(200, 0) / load.wall
    yield Row(
        f"{CLIENTS} clients, {seconds:g} s", f"{rate:.0f} images/s", f"{alone:.0f} images/s model, batches of {BATCH}",
        *at_least(rate / alone, SHARE),
    )  # fmt: skip
    errors = sum(count for status, count in load.statuses.items() if status != 200)
    cuts = quantiles(load.seconds, n=100)
    yield Row(
        "latency of these: p50, p99", f"{cuts[49] * 1000:.0f}, {cuts[98] * 1000:.0f} ms", "",
        f"{errors} errors of {sum(load.statuses.values()):,}", "0", errors == 0,
    )  # fmt: skip


def model_rate(runner: Runner, batch: NDArray[np.uint8], seconds: float = 5) -> float:
    """Images/s of the model alone."""
    runner(batch)
    times: list[float] = []
    while sum(times) < seconds:
        times.append(timed(lambda: runner(batch)))
    return len(batch) / median(times)


async def under_load(port: int, requests: list[bytes], clients: int, seconds: float = 1e9, count: int = 10**9) -> Load:
    """So many clients, each with one request at a time, for so long or until so many are sent."""
    times: list[float] = []
    statuses: dict[int, int] = {}
    start = time.perf_counter()
    numbers = iter(range(count))

    async def work() -> None:
        async with Client(port) as client:
            for number in numbers:
                began = time.perf_counter()
                if began - start > seconds:
                    break
                answer = await client.send(requests[number % len(requests)])
                times.append(time.perf_counter() - began)
                statuses[answer.status] = statuses.get(answer.status, 0) + 1

    await asyncio.gather(*(work() for _ in range(clients)))
    return Load(times, time.perf_counter() - start, statuses)


async def at_once(port: int, sent: bytes, connections: int) -> dict[int, int]:
    """So many connections, all open before the first of them asks; how many answers of each status."""
    clients = [Client(port) for _ in range(connections)]
    for first in range(0, connections, 100):
        await asyncio.gather(*(client.__aenter__() for client in clients[first : first + 100]))
    answers = await asyncio.gather(*(client.send(sent) for client in clients))
    await asyncio.gather(*(client.__aexit__() for client in clients))
    statuses = [answer.status for answer in answers]
    return {status: statuses.count(status) for status in sorted(set(statuses))}


def connections_row(served: Served, content: bytes) -> Row:
    """Every one is answered, with detections or with 503; afterwards the service works as before."""
    start = time.perf_counter()
    statuses = asyncio.run(at_once(served.port, request(content), CONNECTIONS))
    wall = time.perf_counter() - start
    well = asyncio.run(ask(served.port, request(content))).status == 200
    said = ", ".join(f"{count} × {status}" for status, count in statuses.items())
    return Row(
        f"{CONNECTIONS:,} connections at once",
        said,
        "",
        f"{wall:.1f} s",
        "200 or 503",
        well and set(statuses) <= {200, 503},
    )


def leak_row(served: Served, jpegs: list[bytes], count: int) -> Row:
    """Memory after a tenth of the requests and after all."""
    requests = [request(content) for content in jpegs]

    asyncio.run(under_load(served.port, requests, 8, count=count // 10))
    before = served.memory()
    load = asyncio.run(under_load(served.port, requests, 8, count=count))
    after = served.memory()
    assert load.statuses == {200: count}
    growth = after / before - 1
    return Row(
        f"memory over {count:,} requests", f"{after / 1e6:.0f} MB", f"{before / 1e6:.0f} MB before",
        f"{growth:+.1%}", f"≤ {GROWTH:+.0%}", growth <= GROWTH,
    )  # fmt: skip


if __name__ == "__main__":
    run_command(main)
