"""Stop requests: SIGTERM, which also follows the death of the `dvc` that started this process, and Ctrl-C.

Outside `defer_signals`, a signal ends the process immediately. Inside, it is only recorded: the loop polls
`is_stop_requested` where it can save, and raises `Interrupted`. A second signal always ends the process immediately.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TypeVar

from detector.core.stage_process import end_with_dvc

Item = TypeVar("Item")

# Signal handlers are global to the process, and so is their state.
_deferring = False
_received: int | None = None
_launcher: int | None = None  # process ID of a worker's parent


class Interrupted(SystemExit):
    """Ends the process as shells expect after a signal: exit code 128 + signal number, no traceback."""


def install_signal_handlers() -> None:
    """Handle SIGTERM, also when DVC ends, and SIGINT; a script started with `&` keeps ignoring Ctrl-C."""
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _handle_signal)
    end_with_dvc()


def watch_parent() -> None:
    """In a worker process: check that the launcher is alive, and tolerate repeated signals.

    The launcher forwards signals and decides how long to wait: a second signal, such as Ctrl-C from the terminal
    and again from torchrun, must not end a worker before it has saved.
    """
    global _launcher
    _launcher = os.getppid()


def ignore_signals(_worker: int = 0) -> None:
    """Ignore signals in a data-loading process, which the training process ends."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def defer_signals() -> Iterator[None]:
    """Record signals instead of ending the process; the block polls `is_stop_requested`."""
    global _deferring
    _deferring = True
    try:
        yield
    finally:
        _deferring = False


def is_stop_requested() -> bool:
    """Whether a signal is pending or the launcher died; takes microseconds."""
    global _received
    if _received is None and _launcher not in (None, os.getppid()):
        _received = signal.SIGTERM
    return _received is not None


def make_interrupted(message: str = "") -> Interrupted:
    """Clear the stop request and return the exception to raise after saving; `message` goes to stderr."""
    global _received
    number, _received = _received or signal.SIGTERM, None
    if message:
        with suppress(OSError):  # the reader of stderr may be gone
            print(f"\n{signal.Signals(number).name}: {message}", file=sys.stderr, flush=True)
    return Interrupted(128 + number)


def iterate_until_stop(items: Iterable[Item]) -> Iterator[Item]:
    """Yield the items; raise StopRequested before the next one once a stop is requested."""
    for item in items:
        if is_stop_requested():
            raise StopRequested
        yield item


class StopRequested(Exception):
    """Repeatable work was abandoned because of a stop request."""


def _handle_signal(number: int, frame: FrameType | None) -> None:
    global _received
    if not _deferring or (_received is not None and _launcher is None):
        raise Interrupted(128 + number)
    _received = number
