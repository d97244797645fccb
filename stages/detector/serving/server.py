"""uvicorn around the service: its socket, its workers, and time-outs for slow clients."""

from __future__ import annotations

import asyncio
import functools
import os
import resource
import socket
import tempfile

from uvicorn import Config
from uvicorn.config import STARTUP_FAILURE
from uvicorn.protocols.http.h11_impl import H11Protocol

from detector.core.errors import UserError
from detector.serving import logs, metrics
from detector.serving.app import create_app
from detector.serving.settings import Settings
from detector.serving.supervisor import Supervisor

BACKLOG = 2048  # connections waiting to be accepted; the kernel may allow fewer

HEALTH_CHECK_SECONDS = 30  # for a worker to say that it is alive, also while it is starting


def serve(settings: Settings, listener: socket.socket, workers: int) -> None:
    """Serve until SIGTERM or Ctrl-C, then finish the requests in progress. Raises UserError when no worker starts.

    A worker that ends is replaced. SIGHUP replaces one after the other, and each reopens the model file.
    """
    allow_many_connections()
    config = Config(
        functools.partial(create_app, settings),
        factory=True,
        workers=workers,
        loop="asyncio",
        http=TimeoutProtocol,
        ws="none",
        lifespan="on",
        log_config=logs.CONFIG,
        access_log=False,  # middleware.py writes its own
        server_header=False,
        timeout_keep_alive=int(settings.idle_timeout),
        timeout_worker_healthcheck=HEALTH_CHECK_SECONDS,
        timeout_graceful_shutdown=int(settings.upload_timeout + settings.timeout),
    )
    with tempfile.TemporaryDirectory(prefix="detector-metrics-") as folder:
        os.environ[metrics.FOLDER] = folder
        supervisor = Supervisor(config, sockets=[listener])
        supervisor.run()
    if any(process.exitcode == STARTUP_FAILURE for process in supervisor.processes):
        raise UserError("a worker could not start; the log says why")


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0: any free port. Raises UserError when it cannot be opened."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise UserError(
            f"cannot listen on {host}, port {port} ({error.strerror}): try another --port or --host"
        ) from None
    # Otherwise the second packet of each response waits 40 ms for the client's acknowledgement of the first: asyncio
    # sets this only where a socket names its protocol, and connections inherit it.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.set_inheritable(True)
    return listener


def allow_many_connections() -> None:
    """Raise the limit of open files to the maximum; each connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class TimeoutProtocol(H11Protocol):
    """Closes a connection without a request in progress for `timeout_keep_alive` seconds, whatever bytes trickle in.

    uvicorn's own time-out starts after the first request and stops at the next byte: headers that never end, and the
    rest of refused uploads, would keep a connection forever.
    """

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._deadline is not None and self.cycle is not None and not self.cycle.response_complete:
            self._deadline.cancel()
            self._deadline = None

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._deadline is not None:
            self._deadline.cancel()

    def _wait(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        self._deadline = self.loop.call_later(self.timeout_keep_alive, self.transport.abort)
