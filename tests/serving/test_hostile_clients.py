"""What one client does to the others: images made to cost time or memory, and uploads that never end."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, AsyncExitStack
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.service_process import STARTED, Client, HttpResponse, ServiceProcess, build_request, send_request
from tests.support.brightness import picture, write_model

ROOT = Path(__file__).parents[2]
Hosting = Callable[..., AbstractContextManager[int]]

GOOD = build_request(picture(200, (640, 480), "JPEG"))
READY = build_request(path="/readyz", method="GET")


def many_scans(count: int) -> bytes:
    """A progressive JPEG whose last scan stands there `count` times."""
    file = io.BytesIO()
    noise = np.random.default_rng(0).integers(0, 256, (1600, 1600, 3), np.uint8)
    Image.fromarray(noise).resize((3200, 3200)).save(file, "JPEG", progressive=True, quality=30)
    data = file.getvalue()
    last = data[data.rindex(b"\xff\xda") : -2]
    empty = last[: 2 + int.from_bytes(last[2:4], "big")] + b"\x00" * 80
    return data[:-2] + empty * count + data[-2:]


def deep_gray(side: int) -> bytes:
    """A 16-bit PNG of one color: few bytes, and many when it is decoded."""
    file = io.BytesIO()
    Image.new("I;16", (side, side), 40_000).save(file, "PNG")
    return file.getvalue()


async def send_all(port: int, *sent: bytes) -> list[HttpResponse]:
    return await asyncio.gather(*(send_request(port, one) for one in sent))


@pytest.fixture(scope="module")
def usual(model: Path) -> Iterator[ServiceProcess]:
    """With the limits that a user gets."""
    with ServiceProcess(model) as served:
        yield served


def test_a_jpeg_of_many_scans_is_refused_at_once(usual: ServiceProcess) -> None:
    bomb = build_request(many_scans(12_000))
    began = time.monotonic()
    answers = asyncio.run(send_all(usual.port, bomb, bomb, *[GOOD] * 4, READY))
    assert [answer.status for answer in answers] == [413, 413, 200, 200, 200, 200, 200]
    assert "scans" in answers[0].json()["detail"]
    assert time.monotonic() - began < 20


def test_deep_gray_does_not_take_gigabytes(usual: ServiceProcess) -> None:
    """A limit on pixels alone would let the largest one pass."""
    asyncio.run(send_all(usual.port, *[GOOD] * 8))
    before = usual.resident_bytes()
    largest = build_request(deep_gray(7000), "image/png")
    accepted = build_request(deep_gray(4000), "image/png")
    answers = asyncio.run(send_all(usual.port, *[largest] * 4, *[accepted] * 4))
    assert [answer.status for answer in answers] == [413] * 4 + [200] * 4
    assert usual.resident_bytes() - before < 500 << 20


def test_slow_uploads_keep_nobody_out(usual: ServiceProcess) -> None:
    """More than the queue holds, from one client; and when they are done, every place is free again."""

    async def work() -> list[int]:
        async with AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(Client(usual.port)) for _ in range(70)]
            for end in range(100, 30, -10):
                for client in clients:
                    client.writer.write(GOOD[:-100] if end == 100 else GOOD[-end - 10 : -end])
                await asyncio.sleep(0.25)
            statuses = [(await send_request(usual.port, GOOD)).status for _ in range(70)]
            statuses += [answer.status for answer in await send_all(usual.port, *[GOOD] * 20)]
            assert (await send_request(usual.port, READY)).status == 200
        return statuses

    assert asyncio.run(asyncio.wait_for(work(), 60)) == [200] * 90
    line = usual.wait_for_log_lines(1, status=503)[0]
    assert line["client"] == "127.0.0.1"
    metrics = asyncio.run(send_request(usual.port, build_request(path="/metrics", method="GET"))).body.decode()
    assert "detector_images_in_progress 0.0" in metrics


@pytest.mark.parametrize(
    ("length", "status"),
    [("5", 415), ("-1", 400), ("1e9", 400), ("0x10", 400), ("9" * 19, 413), ("1, 2", 400), ("", 400)],
)
def test_a_length_that_is_a_lie(usual: ServiceProcess, length: str, status: int) -> None:
    """Refused as HTTP, or for what the body then is."""
    head, _, body = GOOD.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length")]
    head = b"\r\n".join([*lines, f"Content-Length: {length}".encode()])
    answer = asyncio.run(send_request(usual.port, head + b"\r\n\r\n" + body))
    assert answer.status == status
    assert asyncio.run(send_request(usual.port, GOOD)).status == 200


def test_a_body_shorter_than_it_says_ends_with_the_time_for_uploads(hosted: Hosting) -> None:
    async def work(port: int) -> int:
        async with Client(port) as client:
            client.writer.write(GOOD.replace(b"Content-Length: ", b"Content-Length: 9"))
            return (await client.read()).status

    with hosted(lambda images: [], upload_timeout=0.3) as port:
        assert asyncio.run(asyncio.wait_for(work(port), 20)) == 408


@pytest.mark.parametrize("header", [b"X: y\r\n" * 100_000, b"X: y\r\n" * 5000, b"X: " + b"y" * 60_000 + b"\r\n"])
def test_floods_of_headers(usual: ServiceProcess, header: bytes) -> None:
    async def work() -> bytes:
        async with Client(usual.port) as client:
            try:
                client.writer.write(GOOD.replace(b"Host", header + b"Host", 1))
                return await client.reader.read(12)
            except ConnectionError:
                return b""

    assert asyncio.run(asyncio.wait_for(work(), 20)) in (b"", b"HTTP/1.1 400", b"HTTP/1.1 200")
    assert asyncio.run(send_request(usual.port, GOOD)).status == 200


@pytest.mark.long
def test_workers_end_with_their_parent(model: Path) -> None:
    with ServiceProcess(model) as served:
        worker = served.wait_for_log_lines(1, message=STARTED)[0]["process"]
        served.process.kill()
        end = time.monotonic() + 20
        while Path(f"/proc/{worker}").exists() and time.monotonic() < end:
            time.sleep(0.05)
        assert not Path(f"/proc/{worker}").exists()
        served.process.wait()


SLOW = """
import sys, time
sys.path[:0] = [{tools!r}]
import serve
from detector.serving import app, service, watchdog
watchdog.GRACE = 0.5
{patch}
if __name__ == "__main__":
    serve.main(sys.argv[1:])
"""
# Decoding a large image takes for ever.
STUCK = """
decode = service.decode_upload
def decode_slowly(upload, *rest):
    while len(upload.content) > 10_000: time.sleep(0.1)
    return decode(upload, *rest)
service.decode_upload = decode_slowly
"""


def patched(folder: Path, patch: str) -> Path:
    """The service with a fault, in its workers too."""
    path = folder / "patched.py"
    path.write_text(SLOW.format(tools=str(ROOT / "tools"), patch=patch))
    return path


@pytest.mark.long
def test_a_decoder_that_does_not_end(model: Path, tmp_path: Path) -> None:
    """Its request is refused in time, its worker is replaced, and others are answered."""
    small, large = build_request(picture(200)), build_request(bytes(20_000))
    with ServiceProcess(model, "--timeout", "1", script=patched(tmp_path, STUCK)) as served:
        first = served.wait_for_log_lines(1, message=STARTED)[0]["process"]
        assert asyncio.run(send_request(served.port, small)).status == 200
        began = time.monotonic()
        assert asyncio.run(send_request(served.port, large)).status == 503
        assert time.monotonic() - began < 5
        second = served.wait_for_log_lines(2, message=STARTED)[1]["process"]
        assert second != first
        assert asyncio.run(send_request(served.port, small)).status == 200
        assert len(served.wait_for_log_lines(1, level="critical")) == 1


@pytest.mark.long
def test_a_decoder_that_does_not_end_does_not_keep_the_service_from_stopping(model: Path, tmp_path: Path) -> None:
    async def work(served: ServiceProcess) -> float:
        async with AsyncExitStack() as stack:
            for _ in range(4):
                client = await stack.enter_async_context(Client(served.port))
                client.writer.write(build_request(bytes(20_000)))
            await asyncio.sleep(0.3)
            began = time.monotonic()
            assert await asyncio.to_thread(served.stop) == 0
            return time.monotonic() - began

    with ServiceProcess(model, "--timeout", "3", script=patched(tmp_path, STUCK)) as served:
        assert asyncio.run(work(served)) < 10


LOADS_SLOWLY = """
opened = app.open_onnx
def open_slowly(*arguments):
    time.sleep(8)
    return opened(*arguments)
app.open_onnx = open_slowly
"""


@pytest.mark.long
def test_a_model_that_takes_long_to_load_replaces_the_old_one(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.onnx")
    with ServiceProcess(path, script=patched(tmp_path, LOADS_SLOWLY)) as served:
        write_model(tmp_path / "new.onnx", code="new").replace(path)
        served.process.send_signal(signal.SIGHUP)
        assert served.wait_for_log_lines(1, message="the model was replaced in all 1 workers")
        answer = asyncio.run(send_request(served.port, build_request(path="/v1/model", method="GET")))
        assert answer.json()["code"] == "new"


@pytest.mark.long
def test_a_model_that_cannot_be_loaded_leaves_the_old_one(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.onnx")
    with ServiceProcess(path) as served:
        write_model(tmp_path / "new.onnx", temperature=-1).replace(path)
        served.process.send_signal(signal.SIGHUP)
        (line,) = served.wait_for_log_lines(1, level="error", exit_code=3)
        assert "in 0 of 1 workers" in line["message"]
        assert asyncio.run(send_request(served.port, GOOD)).status == 200
        assert served.stop() == 0


@pytest.mark.parametrize("name", ["/dev/full", "closed"])
def test_a_log_that_cannot_be_written(model: Path, name: str, tmp_path: Path) -> None:
    """One line on stderr, and the service goes on."""
    if name == "closed":
        end, output = os.pipe()
        os.close(end)
    else:
        output = os.open(name, os.O_WRONLY)
    command = [sys.executable, "tools/serve.py", str(model), "--port", "0"]
    with (tmp_path / "errors").open("w") as errors:
        process = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=errors)
    os.close(output)
    try:
        end_time, text = time.monotonic() + 30, ""
        while "goes on without it" not in text and time.monotonic() < end_time:
            time.sleep(0.05)
            text = (tmp_path / "errors").read_text()
        port = int(text.split("http://127.0.0.1:")[1].split("/")[0])
        while True:
            try:
                assert asyncio.run(send_request(port, GOOD)).status == 200
                break
            except ConnectionError:
                assert time.monotonic() < end_time
        process.terminate()
        assert process.wait(30) == 0
        assert "Traceback" not in (tmp_path / "errors").read_text()
    finally:
        process.kill()
        process.wait()
