"""uvicorn around the service: its socket, its workers, and clients that take their time."""

from __future__ import annotations

import asyncio
import functools
import os
import resource
import socket
import tempfile

from uvicorn import Config, Server
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.supervisors import Multiprocess

from detector.core.errors import UserError
from detector.serving import logs, metrics
from detector.serving.app import create_app
from detector.serving.settings import Settings

BACKLOG = 2048  # connections that wait to be accepted; the kernel may allow fewer


def serve(settings: Settings, listener: socket.socket, workers: int) -> None:
    """Answer until SIGTERM or Ctrl-C, and then finish what was begun.

    With several workers, SIGHUP replaces one after the other, and each opens the model file anew.
    """
    allow_many_connections()
    config = Config(
        functools.partial(create_app, settings),
        factory=True,
        workers=workers,
        loop="asyncio",
        http=ImpatientProtocol,
        ws="none",
        lifespan="on",
        log_config=logs.CONFIG,
        access_log=False,  # watching.py writes its own
        server_header=False,
        timeout_keep_alive=int(settings.idle_timeout),
        timeout_graceful_shutdown=int(settings.upload_timeout + settings.timeout),
    )
    if workers == 1:
        Server(config).run(sockets=[listener])
        return
    with tempfile.TemporaryDirectory(prefix="detector-metrics-") as folder:
        os.environ[metrics.FOLDER] = folder
        Multiprocess(config, sockets=[listener]).run()


def listen(host: str, port: int) -> socket.socket:
    """A socket that takes connections; port 0: any that is free. Raises UserError when there is none to be had."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
    except OSError as error:
        raise UserError(
            f"cannot listen on {host}, port {port} ({error.strerror}): try another --port or --host"
        ) from None
    # Or else each answer's second packet waits 40 ms for the client's acknowledgement of the first: asyncio sets this
    # only where a socket names its protocol, and connections inherit it.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.set_inheritable(True)
    return listener


def allow_many_connections() -> None:
    """As many open files as the machine lets this user have; each connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


class ImpatientProtocol(H11Protocol):
    """Ends a connection that has no request under way for `timeout_keep_alive` seconds, whatever bytes trickle in.

    uvicorn's own time-out begins after the first request and is off as soon as a byte comes: heads that never end and
    the rest of uploads that were refused would keep a connection for ever.
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
