"""What clients send by mistake or on purpose: the right refusal, in words, and the next request is answered."""

from __future__ import annotations

import asyncio
import io
import struct
import zlib

import pytest
from PIL import Image

from benchmarks.served import Answered, Client, Served, ask, form, request
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
    "no content type": (request(JPEG, ""), 415, "content type ``"),
    "json": (request(b"{}", "application/json"), 415, "content type `application/json`: expected multipart"),
    "empty": (request(b""), 400, "the request is empty"),
    "empty form": (request(*form()), 400, "holds no file"),
    "no boundary": (request(b"x", "multipart/form-data"), 400, "the form cannot be read"),
    "cut form": (request(form(JPEG)[0][:-20], form()[1]), 400, "cut off"),
    "text": (request(b"hello, world"), 415, "image 1 is none of JPEG, PNG"),
    "cut image": (request(JPEG[: len(JPEG) // 2]), 422, "image 1 cannot be read"),
    "one of two": (request(*form(JPEG, JPEG[:400])), 422, "image 2 cannot be read"),
    "bomb": (request(bomb(), "image/png"), 413, "image 1 has more than the 500,000 pixels"),
    "large": (request(large(), "image/png"), 413, "image 1 has more than the 500,000 pixels"),
    "too many": (request(*form(JPEG, JPEG, JPEG, JPEG)), 413, "4 images in one request, and 3 are allowed"),
    "too long": (request(bytes(1_000_001)), 413, "longer than the 1,000,000 bytes"),
    "threshold": (request(JPEG, path="/v1/predict?threshold=nan"), 422, "threshold"),
    "path": (request(JPEG, path="/v1/detect"), 404, "Not Found"),
    "traversal": (request(path="/page/../../app.py", method="GET"), 404, "Not Found"),
    "method": (request(path="/v1/predict", method="GET"), 405, "Method Not Allowed"),
}


@pytest.mark.parametrize("name", CASES)
def test_it_is_refused_in_words(served: Served, name: str) -> None:
    sent, status, said = CASES[name]

    async def work() -> list[Answered]:
        async with Client(served.port) as client:
            refused = await client.send(sent)
        return [refused, await ask(served.port, request(JPEG))]

    refused, after = asyncio.run(work())
    assert refused.status == status
    assert said in refused.json()["detail"]
    assert len(refused.body) < 400
    assert b"Traceback" not in refused.body
    assert after.status == 200


def test_a_length_that_is_too_long_is_refused_before_the_body(served: Served) -> None:
    head = b"POST /v1/predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nContent-Length: 1000000000000\r\n\r\n"
    assert asyncio.run(ask(served.port, head)).status == 413


def test_a_body_without_a_length_is_counted_while_it_comes(served: Served) -> None:
    """And the rest of it is thrown away, so that the client, still sending, can read why."""
    head = b"POST /v1/predict HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"%x\r\n%s\r\n" % (100_000, bytes(100_000))

    async def work() -> list[Answered]:
        async with Client(served.port) as client:
            refused = await client.send(head + chunk * 30 + b"0\r\n\r\n")
            return [refused, await client.send(request(JPEG))]

    refused, after = asyncio.run(work())
    assert (refused.status, after.status) == (413, 200)


@pytest.mark.parametrize("sent", [b"\x16\x03\x01\x02\x00\x01\x00\x01", b"hello\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n",
                                  b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 200_000])  # fmt: skip
def test_what_is_no_http(served: Served, sent: bytes) -> None:
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
    assert asyncio.run(ask(served.port, request(JPEG))).status == 200


def test_a_client_that_breaks_its_upload_off(served: Served) -> None:
    sent = request(JPEG)

    async def work() -> None:
        for end in (len(sent) - 1, len(sent) // 2, 10):
            async with Client(served.port) as client:
                client.writer.write(sent[:end])
                await client.writer.drain()

    asyncio.run(work())
    assert len(served.lines(2, status=499)) == 2  # the last had not even asked
    assert asyncio.run(ask(served.port, request(JPEG))).status == 200


def test_mutated_images_over_http(served: Served) -> None:
    """Every tenth byte changed in turn: an answer or a refusal, never a failure."""

    async def work() -> set[int]:
        statuses = set()
        async with Client(served.port) as client:
            for kind in ("JPEG", "PNG"):
                content = picture(180, (40, 30), kind)
                for place in range(0, len(content), 10):
                    changed = content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :]
                    statuses.add((await client.send(request(changed))).status)
        return statuses

    statuses = asyncio.run(work())
    assert 200 in statuses
    assert statuses <= {200, 413, 415, 422}
