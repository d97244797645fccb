"""A running service, and clients that cost little: client and service share the cores."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.workspace import ROOT
from detector.core.errors import UserError

SECONDS = 60  # to begin, and to end
STARTED = "Application startup complete."


class Answered(NamedTuple):
    """An HTTP answer; header names are lower-case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body."""
        return json.loads(self.body)


class Served:
    """`tools/serve.py` in a process of its own, as a context; SIGTERM ends it."""

    def __init__(
        self, model: Path, *options: str, python: str = sys.executable, root: Path = ROOT, **more: str
    ) -> None:
        """more: environment variables."""
        self._folder = tempfile.TemporaryDirectory(prefix="served-")
        self._log, self._said = (Path(self._folder.name) / name for name in ("log", "said"))
        command = [python, "tools/serve.py", str(model), "--port", "0", *options]
        with self._log.open("w") as log, self._said.open("w") as said:
            self.process = subprocess.Popen(command, cwd=root, env=os.environ | more, stdout=log, stderr=said)

    def __enter__(self) -> Served:
        end = time.monotonic() + SECONDS
        while STARTED not in self._log.read_text():
            if self.process.poll() is not None or time.monotonic() > end:
                problem = self.said()
                self.__exit__()
                raise UserError(f"the service did not start: {problem}")
            time.sleep(0.02)
        self.port = int(self.said().rsplit(":", 1)[1].split("/")[0])
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()
        self._folder.cleanup()

    def stop(self) -> int:
        """The exit code after SIGTERM; minus 15 when it was obeyed."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise UserError(f"the service did not end within {SECONDS} s of SIGTERM") from None

    @property
    def url(self) -> str:
        """Without a slash at its end."""
        return f"http://127.0.0.1:{self.port}"

    def said(self) -> str:
        """What it wrote for people, so far."""
        return self._said.read_text()

    def log(self) -> list[dict[str, Any]]:
        """Its log's whole lines, so far."""
        return [json.loads(line) for line in self._log.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def lines(self, count: int, **wanted: object) -> list[dict[str, Any]]:
        """Its log's lines with these fields, once there are so many: they are written after the answer."""
        end = time.monotonic() + SECONDS
        while True:
            found = [line for line in self.log() if wanted.items() <= line.items()]
            if len(found) >= count or time.monotonic() > end:
                return found
            time.sleep(0.02)

    def memory(self) -> int:
        """Bytes that its process has in RAM."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


class Client:
    """One connection, kept open; as an asynchronous context."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> Client:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        with suppress(OSError):  # the service may have ended it
            await self.writer.wait_closed()

    async def send(self, request: bytes) -> Answered:
        """Send a whole request and read its answer."""
        self.writer.write(request)
        return await self.read()

    async def read(self) -> Answered:
        """The next answer. Raises asyncio.IncompleteReadError when the connection ends instead."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])}
        body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return Answered(int(head[0].split()[1]), headers, body)


def request(
    body: bytes = b"", kind: str = "image/jpeg", path: str = "/v1/predict", method: str = "POST", **headers: str
) -> bytes:
    """The bytes of a request; header names with _ for -."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def form(*contents: bytes, boundary: str = "b0undary") -> tuple[bytes, str]:
    """A multipart body with these files, and its content type."""
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="image"; filename="{number}.jpg"\r\n\r\n'.encode()
        + content + b"\r\n"
        for number, content in enumerate(contents, 1)
    ]  # fmt: skip
    return b"".join([*parts, f"--{boundary}--\r\n".encode()]), f"multipart/form-data; boundary={boundary}"


async def ask(port: int, sent: bytes) -> Answered:
    """One request on a connection of its own."""
    async with Client(port) as client:
        return await client.send(sent)
