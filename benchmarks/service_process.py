"""Run `tools/serve.py` in a process and send it requests with a light asynchronous client."""

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

TIMEOUT = 60  # seconds to start, and to stop
STARTED = "Application startup complete."


class HttpResponse(NamedTuple):
    """An HTTP response; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The decoded body."""
        return json.loads(self.body)


class ServiceProcess:
    """`tools/serve.py` in its own process, as a context manager; SIGTERM ends it."""

    def __init__(
        self,
        model: Path,
        *options: str,
        python: str = sys.executable,
        root: Path = ROOT,
        script: Path = Path("tools/serve.py"),
        **variables: str,
    ) -> None:
        """script: relative to `root`. variables: of the environment."""
        self._folder = tempfile.TemporaryDirectory(prefix="served-")
        self._log, self._console = (Path(self._folder.name) / name for name in ("log", "console"))
        command = [python, str(script), str(model), "--port", "0", *options]
        with self._log.open("w") as log, self._console.open("w") as console:
            self.process = subprocess.Popen(command, cwd=root, env=os.environ | variables, stdout=log, stderr=console)

    def __enter__(self) -> ServiceProcess:
        end = time.monotonic() + TIMEOUT
        while STARTED not in self._log.read_text():
            if self.process.poll() is not None or time.monotonic() > end:
                problem = self.read_console()
                self.__exit__()
                raise UserError(f"the service did not start: {problem}")
            time.sleep(0.02)
        self.port = int(self.read_console().rsplit(":", 1)[1].split("/")[0])
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.stop()
        self._folder.cleanup()

    def stop(self) -> int:
        """Send SIGTERM and return the exit code, 0 after a clean end. Raises UserError."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(TIMEOUT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise UserError(f"the service did not end within {TIMEOUT} s of SIGTERM") from None

    @property
    def url(self) -> str:
        """The base URL, without a trailing slash."""
        return f"http://127.0.0.1:{self.port}"

    def read_console(self) -> str:
        """The messages on stderr so far."""
        return self._console.read_text()

    def read_log(self) -> list[dict[str, Any]]:
        """The complete lines of the JSON log so far."""
        return [json.loads(line) for line in self._log.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def wait_for_log_lines(self, count: int, **fields: object) -> list[dict[str, Any]]:
        """The log lines with these fields, once there are `count`: lines are written after the response is sent."""
        end = time.monotonic() + TIMEOUT
        while True:
            lines = [line for line in self.read_log() if fields.items() <= line.items()]
            if len(lines) >= count or time.monotonic() > end:
                return lines
            time.sleep(0.02)

    def resident_bytes(self) -> int:
        """The resident memory of the workers."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        pages = [int(Path(f"/proc/{child}/statm").read_text().split()[1]) for child in children]
        return sum(pages) * os.sysconf("SC_PAGE_SIZE")


class Client:
    """One persistent connection, as an asynchronous context manager."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def __aenter__(self) -> Client:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.writer.close()
        with suppress(OSError):  # the service may have closed it
            await self.writer.wait_closed()

    async def send(self, request: bytes) -> HttpResponse:
        """Send a request and read the response."""
        self.writer.write(request)
        return await self.read()

    async def read(self) -> HttpResponse:
        """Read the next response. Raises asyncio.IncompleteReadError when the connection is closed."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])}
        body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return HttpResponse(int(head[0].split()[1]), headers, body)


def build_request(
    body: bytes = b"", kind: str = "image/jpeg", path: str = "/v1/predict", method: str = "POST", **headers: str
) -> bytes:
    """The bytes of an HTTP request; `_` in header names becomes `-`."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Type: {kind}", f"Content-Length: {len(body)}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def build_multipart(*contents: bytes, boundary: str = "b0undary") -> tuple[bytes, str]:
    """A multipart body with these files, and its content type."""
    head = 'Content-Disposition: form-data; name="image"; filename="{}.jpg"'
    parts = [
        f"--{boundary}\r\n{head.format(number)}\r\n\r\n".encode() + content + b"\r\n"
        for number, content in enumerate(contents, 1)
    ]
    return b"".join([*parts, f"--{boundary}--\r\n".encode()]), f"multipart/form-data; boundary={boundary}"


async def send_request(port: int, sent: bytes) -> HttpResponse:
    """Send one request on a new connection."""
    async with Client(port) as client:
        return await client.send(sent)
