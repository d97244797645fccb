"""The images of a request: read its body within limits and parse it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from fastapi import HTTPException, Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MULTIPART = "multipart/form-data"
EXPECTED = f"expected the bytes of one image, or {MULTIPART} with one or more files"


class Upload(NamedTuple):
    """name: the file name that the client sent, empty if none."""

    name: str
    content: bytes


async def read_body(request: Request, limit: int, seconds: float) -> bytes:
    """The whole body. Raises HTTPException: 413 when it is longer than `limit` bytes, 408 when it is too slow, and 415
    when it is compressed.

    A body that announces its length is refused before any of it is read. Raises ClientDisconnect when it ends early.
    """
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise HTTPException(415, f"content encoding `{encoding[:80]}`: send the body uncompressed")
    too_long = HTTPException(413, f"the request exceeds the limit of {limit:,} bytes")
    announced = request.headers.get("content-length", "0")
    if announced.isdecimal() and int(announced) > limit:
        raise too_long
    body = bytearray()

    async def read() -> None:
        async for chunk in request.stream():
            body.extend(chunk)
            if len(body) > limit:
                raise too_long

    try:
        await asyncio.wait_for(read(), seconds)
    except asyncio.TimeoutError:
        message = f"the upload was not complete after {seconds:g} seconds"
        raise HTTPException(408, message, headers={"Connection": "close"}) from None
    return bytes(body)


def extract_uploads(body: bytes, content_type: str, limit: int) -> list[Upload]:
    """The files of a multipart body, or the body itself: at least one, none of them empty.

    Raises HTTPException: 400 for a body that is empty, truncated or malformed, 413 for more than `limit` files.
    """
    if not body:
        raise HTTPException(400, f"the request is empty: {EXPECTED}")
    if not content_type.lower().startswith(MULTIPART):
        return [Upload("", body)]
    found = _parse_form(body, content_type)
    if not found:
        raise HTTPException(400, "the form holds no file: send each image as a file, such as -F image=@photo.jpg")
    if len(found) > limit:
        raise HTTPException(413, f"{len(found)} images in one request, {limit} are allowed")
    for number, upload in enumerate(found, 1):
        if not upload.content:
            raise HTTPException(400, f"image {number} is empty")
    return found


def _parse_form(body: bytes, content_type: str) -> list[Upload]:
    """The parts with a file name, in order; other fields of the form are ignored."""
    boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
    parts = _FormParts()
    try:
        parser = MultipartParser(boundary, parts.callbacks())
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise HTTPException(400, f"the form cannot be read: {error}") from None
    if not parts.ended:
        raise HTTPException(400, "the form is truncated: its closing boundary is missing")
    return parts.files


class _FormParts:
    """Collects the parser's callbacks."""

    def __init__(self) -> None:
        self.files: list[Upload] = []
        self.ended = False
        self._headers: dict[bytes, bytes] = {}
        self._name = self._value = b""
        self._content = bytearray()

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._add_name(data[start:end]),
            "on_header_value": lambda data, start, end: self._add_value(data[start:end]),
            "on_header_end": self._end_header,
            "on_part_data": lambda data, start, end: self._content.extend(data[start:end]),
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        self._headers, self._content = {}, bytearray()
        self._name = self._value = b""

    def _add_name(self, data: bytes) -> None:
        self._name += data

    def _add_value(self, data: bytes) -> None:
        self._value += data

    def _end_header(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _end(self) -> None:
        options = parse_options_header(self._headers.get(b"content-disposition"))[1]
        if b"filename" in options:
            self.files.append(Upload(options[b"filename"].decode("utf-8", "replace"), bytes(self._content)))

    def _finish(self) -> None:
        self.ended = True
