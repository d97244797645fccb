"""Overhead of the service over its model, throughput under load, and memory growth.

command  python -m benchmarks.service MODEL [--seconds S] [--leak N]        (or `make bench-service`)
reads    an exported ONNX file
writes   nothing
time     about 2 minutes, plus the time of the --leak requests

Service, clients and the model alone share the cores of this machine. The model has one thread in both cases, which
leaves a second core for HTTP, decoding and the clients.
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

from benchmarks.photographs import generate_photograph
from benchmarks.service_process import Client, ServiceProcess, build_request, send_request
from benchmarks.table import Row, check_ratio, format_table
from benchmarks.timing import log_progress, measure_seconds
from detector.core.errors import run_command
from detector.core.images import open_image
from detector.engine.environment import keep_freed_memory
from detector.runners.model_metadata import ModelMetadata
from detector.runners.onnx_runner import open_onnx
from detector.runners.tiled import Runner

THREADS = 1
BATCH = 8
CLIENTS = 32
CONNECTIONS = 1000
PAIRS = 300
PHOTOGRAPHS = 16
MAX_OVERHEAD = 0.005  # seconds
MIN_THROUGHPUT = 0.9  # of the model alone
MAX_GROWTH = 0.05  # of memory


class Load(NamedTuple):
    """seconds: latency of each response. wall: total duration. statuses: number of responses per status."""

    seconds: list[float]
    wall: float
    statuses: dict[int, int]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", type=Path, nargs="?", default=Path("models/model.onnx"))
    parser.add_argument("--seconds", type=float, default=60, help="duration of the load by 32 clients")
    parser.add_argument("--leak", type=int, default=0, help="number of requests over which memory growth is measured")
    arguments = parser.parse_args()
    keep_freed_memory()
    metadata, runner = open_onnx(arguments.model, THREADS)
    rows: list[Row] = []
    try:
        with ServiceProcess(arguments.model, "--threads", str(THREADS), "--batch", str(BATCH)) as served:
            rows.extend(measure_rows(served, metadata, runner, arguments.seconds, arguments.leak))
    finally:  # also after an error or Ctrl-C
        print(format_table(rows))


def measure_rows(
    served: ServiceProcess, metadata: ModelMetadata, runner: Runner, seconds: float, leak: int
) -> Iterator[Row]:
    """Measure all rows."""
    jpegs = [make_jpeg(number) for number in range(PHOTOGRAPHS)]
    log_progress("one client")
    yield overhead_row(served, metadata, runner, jpegs)
    log_progress(f"{CLIENTS} clients")
    yield from load_rows(served, metadata, runner, jpegs, seconds)
    log_progress(f"{CONNECTIONS} connections")
    yield connections_row(served, jpegs[0])
    if leak:
        log_progress(f"{leak} requests")
        yield leak_row(served, jpegs, leak)


def make_jpeg(seed: int) -> bytes:
    """A generated photograph of 640 x 480."""
    file = io.BytesIO()
    generate_photograph(seed).save(file, "JPEG", quality=85)
    return file.getvalue()


def decode_input(content: bytes, metadata: ModelMetadata) -> NDArray[np.uint8]:
    """Decode an image like the service: uint8 [3, H, W]."""
    return open_image(content).letterbox(metadata.size, metadata.fill).pixels.transpose(2, 0, 1)


def overhead_row(served: ServiceProcess, metadata: ModelMetadata, runner: Runner, jpegs: list[bytes]) -> Row:
    """Latency of the same images over HTTP and in this process, one by one and alternately."""

    async def time_requests() -> list[tuple[float, float]]:
        times: list[tuple[float, float]] = []
        async with Client(served.port) as client:
            for number in range(PAIRS):
                content = jpegs[number % len(jpegs)]
                baseline = measure_seconds(lambda content=content: runner(decode_input(content, metadata)[None]))  # type: ignore[misc]
                start = time.perf_counter()
                assert (await client.send(build_request(content))).status == 200
                times.append((time.perf_counter() - start, baseline))
        return times[PAIRS // 10 :]

    times = asyncio.run(time_requests())
    ours, baseline = (median(column) for column in zip(*times, strict=True))
    overhead = median(one - other for one, other in times)
    return Row(
        "service, one client, 640×480 JPEG: p50",
        f"{ours * 1000:.1f} ms",
        f"{baseline * 1000:.1f} ms decode + model",
        f"{overhead * 1000:+.1f} ms",
        f"< {MAX_OVERHEAD * 1000:g} ms",
        overhead < MAX_OVERHEAD,
    )


def load_rows(
    served: ServiceProcess, metadata: ModelMetadata, runner: Runner, jpegs: list[bytes], seconds: float
) -> Iterator[Row]:
    """Throughput against the model alone, which is measured before and after, and latency."""
    batch = np.stack([decode_input(content, metadata) for content in jpegs[:BATCH]])
    before = measure_model_rate(runner, batch)
    load = asyncio.run(run_load(served.port, [build_request(content) for content in jpegs], CLIENTS, seconds))
    alone = median([before, measure_model_rate(runner, batch)])
    rate = load.statuses.get(200, 0) / load.wall
    yield Row(
        f"{CLIENTS} clients, {seconds:g} s",
        f"{rate:.0f} images/s",
        f"{alone:.0f} images/s model, batches of {BATCH}",
        *check_ratio(rate / alone, MIN_THROUGHPUT),
    )
    errors = sum(count for status, count in load.statuses.items() if status != 200)
    percentiles = quantiles(load.seconds, n=100)
    yield Row(
        "their latency: p50, p99",
        f"{percentiles[49] * 1000:.0f}, {percentiles[98] * 1000:.0f} ms",
        "",
        f"{errors} errors of {sum(load.statuses.values()):,}",
        "0",
        errors == 0,
    )


def measure_model_rate(runner: Runner, batch: NDArray[np.uint8], seconds: float = 5) -> float:
    """Images/s of the model alone."""
    runner(batch)
    times: list[float] = []
    while sum(times) < seconds:
        times.append(measure_seconds(lambda: runner(batch)))
    return len(batch) / median(times)


async def run_load(port: int, requests: list[bytes], clients: int, seconds: float = 1e9, count: int = 10**9) -> Load:
    """Run clients with one request at a time each, for `seconds` or until `count` requests are sent."""
    times: list[float] = []
    statuses: dict[int, int] = {}
    start = time.perf_counter()
    numbers = iter(range(count))

    async def run_client() -> None:
        async with Client(port) as client:
            for number in numbers:
                sent = time.perf_counter()
                if sent - start > seconds:
                    break
                response = await client.send(requests[number % len(requests)])
                times.append(time.perf_counter() - sent)
                statuses[response.status] = statuses.get(response.status, 0) + 1

    await asyncio.gather(*(run_client() for _ in range(clients)))
    return Load(times, time.perf_counter() - start, statuses)


async def send_simultaneously(port: int, request: bytes, connections: int) -> dict[int, int]:
    """Open all connections, then send on all of them. Returns the number of responses per status."""
    clients = [Client(port) for _ in range(connections)]
    for first in range(0, connections, 100):
        await asyncio.gather(*(client.__aenter__() for client in clients[first : first + 100]))
    responses = await asyncio.gather(*(client.send(request) for client in clients))
    await asyncio.gather(*(client.__aexit__() for client in clients))
    statuses = [response.status for response in responses]
    return {status: statuses.count(status) for status in sorted(set(statuses))}


def connections_row(served: ServiceProcess, content: bytes) -> Row:
    """Each connection gets detections or 503, and the service works afterwards."""
    start = time.perf_counter()
    statuses = asyncio.run(send_simultaneously(served.port, build_request(content), CONNECTIONS))
    wall = time.perf_counter() - start
    works = asyncio.run(send_request(served.port, build_request(content))).status == 200
    counts = ", ".join(f"{count} × {status}" for status, count in statuses.items())
    return Row(
        f"{CONNECTIONS:,} simultaneous connections",
        counts,
        "",
        f"{wall:.1f} s",
        "200 or 503",
        works and set(statuses) <= {200, 503},
    )


def leak_row(served: ServiceProcess, jpegs: list[bytes], count: int) -> Row:
    """Resident memory after a tenth of the requests and after all."""
    requests = [build_request(content) for content in jpegs]
    asyncio.run(run_load(served.port, requests, 8, count=count // 10))
    before = served.resident_bytes()
    load = asyncio.run(run_load(served.port, requests, 8, count=count))
    after = served.resident_bytes()
    assert load.statuses == {200: count}
    growth = after / before - 1
    return Row(
        f"memory over {count:,} requests",
        f"{after / 1e6:.0f} MB",
        f"{before / 1e6:.0f} MB before",
        f"{growth:+.1%}",
        f"≤ {MAX_GROWTH:+.0%}",
        growth <= MAX_GROWTH,
    )


if __name__ == "__main__":
    run_command(main)
