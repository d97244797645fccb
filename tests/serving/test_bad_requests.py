"""What clients send by mistake or on purpose: the right refusal, in words, and the next request is answered."""

from __future__ import annotations

import asyncio
import gzip
import io
import struct
import zlib

import pytest
from PIL import Image

from benchmarks.service_process import (
    Client,
    HttpResponse,
    ServiceProcess,
    build_multipart,
    build_request,
    send_request,
)
from tests.support.brightness import picture

JPEG = picture(200, kind="JPEG")


def bomb() -> bytes:
    """A PNG of a few bytes that says it has 20,000 x 20,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    )


def large() -> bytes:
    """A real image of more pixels than are allowed, and of few bytes."""
    file = io.BytesIO()
    Image.new("L", (1000, 700)).save(file, "PNG")
    return file.getvalue()


CASES = {
    "json": (build_request(b"{}", "application/json"), 415, "JPEG, PNG"),
    "compressed": (build_request(gzip.compress(JPEG), Content_Encoding="gzip"), 415, "`gzip`: send the body uncomp"),
    "empty": (build_request(b""), 400, "empty"),
    "empty form": (build_request(*build_multipart()), 400, "no file"),
    "no boundary": (build_request(b"x", "multipart/form-data"), 400, "form"),
    "cut form": (build_request(build_multipart(JPEG)[0][:-20], build_multipart()[1]), 400, "closing boundary"),
    "text": (build_request(b"hello, world"), 415, "JPEG, PNG"),
    "cut image": (build_request(JPEG[: len(JPEG) // 2]), 422, "image 1 "),
    "one of two": (build_request(*build_multipart(JPEG, JPEG[:400])), 422, "image 2 "),
    "bomb": (build_request(bomb(), "image/png"), 413, "500,000 pixels"),
    "large": (build_request(large(), "image/png"), 413, "500,000 pixels"),
    "too many": (build_request(*build_multipart(JPEG, JPEG, JPEG, JPEG)), 413, "4 images"),
    "too long": (build_request(bytes(1_000_001)), 413, "1,000,000 bytes"),
    "threshold": (build_request(JPEG, path="/v1/predict?threshold=nan"), 422, "threshold"),
    "unknown key": (build_request(JPEG, path="/v1/predict?treshold=1"), 422, "did you mean 'threshold'?"),
    "long key": (build_request(JPEG, path=f"/v1/predict?{'k' * 30_000}=1"), 422, "did you mean"),
    "key of a plain route": (build_request(path="/v1/model?v=1", method="GET"), 422, "`v`: unknown query parameter"),
    "small tiles": (
        build_request(JPEG, path="/v1/predict?tile=8"),
        422,
        "tile 8: expected a side of at least 32 pixels",
    ),
    "vast tiles": (build_request(JPEG, path=f"/v1/predict?tile={'9' * 400}"), 422, "expected a side"),
    "negative tiles": (build_request(JPEG, path="/v1/predict?tile=-640"), 422, "expected a side"),
    "unknown tiles": (build_request(JPEG, path="/v1/predict?tile=auto"), 422, "no `object_size`"),
    "no tiles": (build_request(JPEG, path="/v1/predict?tile=small"), 422, "expected a side"),
    "path": (build_request(JPEG, path="/v1/detect"), 404, "Not Found"),
    "traversal": (build_request(path="/page/../../app.py", method="GET"), 404, "Not Found"),
    "method": (build_request(path="/v1/predict", method="GET"), 405, "Method Not Allowed"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_bad_request_is_refused_with_a_reason(served: ServiceProcess, name: str) -> None:
    sent, status, said = CASES[name]

    async def work() -> list[HttpResponse]:
        async with Client(served.port) as client:
            refused = await client.send(sent)
        return [refused, await send_request(served.port, build_request(JPEG))]

    refused, after = asyncio.run(work())
    assert refused.status == status
    assert said in refused.json()["detail"]
    assert len(refused.body) < 400
    assert b"Traceback" not in refused.body
    assert after.status == 200


def test_a_length_that_is_too_long_is_refused_before_the_body(served: ServiceProcess) -> None:
    head = b"POST /v1/predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nContent-Length: 1000000000000\r\n\r\n"
    assert asyncio.run(send_request(served.port, head)).status == 413


def test_a_body_without_a_length_is_counted_while_it_comes(served: ServiceProcess) -> None:
    """And the rest of it is thrown away, so that the client, still sending, can read why."""
    head = b"POST /v1/predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"%x\r\n%s\r\n" % (100_000, bytes(100_000))

    async def work() -> list[HttpResponse]:
        async with Client(served.port) as client:
            refused = await client.send(head + chunk * 30 + b"0\r\n\r\n")
            return [refused, await client.send(build_request(JPEG))]

    refused, after = asyncio.run(work())
    assert (refused.status, after.status) == (413, 200)


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\x02\x00\x01\x00\x01", b"hello\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n",
                                  b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 200_000])  # fmt: skip
def test_what_is_no_http(served: ServiceProcess, sent: bytes) -> None:
    async def work() -> bytes:
        async with Client(served.port) as client:
            client.writer.write(sent)
            try:
                return await client.reader.read()
            except ConnectionResetError:  # what was not read when the service hung up can take the answer with it
                return b""

    answer = asyncio.run(work())
    assert answer.startswith(b"HTTP/1.1 400") or (answer == b"" and len(sent) > 100_000)
    assert b"Traceback" not in answer
    assert asyncio.run(send_request(served.port, build_request(JPEG))).status == 200


def test_a_client_that_breaks_its_upload_off(served: ServiceProcess) -> None:
    sent = build_request(JPEG)

    async def work() -> None:
        for end in (len(sent) - 1, len(sent) // 2, 10):
            async with Client(served.port) as client:
                client.writer.write(sent[:end])
                await client.writer.drain()

    asyncio.run(work())
    assert len(served.wait_for_log_lines(2, status=499)) == 2  # the last had not even asked
    assert asyncio.run(send_request(served.port, build_request(JPEG))).status == 200


def test_mutated_images_over_http(served: ServiceProcess) -> None:
    """Every tenth byte changed in turn: an answer or a refusal, never a failure."""

    async def work() -> set[int]:
        statuses = set()
        async with Client(served.port) as client:
            for kind in ("JPEG", "PNG"):
                content = picture(180, (40, 30), kind)
                for place in range(0, len(content), 10):
                    changed = content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]
                    statuses.add((await client.send(build_request(changed))).status)
        return statuses

    statuses = asyncio.run(work())
    assert 200 in statuses
    assert statuses <= {200, 413, 415, 422}
