"""Stop requests: SIGTERM, Ctrl-C, and the death of the `dvc` that started this process.

Outside `defer_signals`, a signal ends the process immediately. Inside, it is only recorded: the loop polls
`is_stop_requested` where it can save, and raises `Interrupted`. A second signal always ends the process immediately.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import TypeVar

Item = TypeVar("Item")

# Signal handlers are global to the process, and so is their state.
_deferring = False
_received: int | None = None
_watched: tuple[int, int] | None = None  # a process and its expected parent
_is_worker = False


class Interrupted(SystemExit):
    """Ends the process as shells expect after a signal: exit code 128 + signal number, no traceback."""


def install_signal_handlers() -> None:
    """Handle SIGTERM and SIGINT and, if DVC started this process, check that DVC is alive.

    Otherwise the training would continue after its `dvc` was killed. A script started by hand may outlive its
    shell (nohup), and one started with `&` keeps ignoring Ctrl-C. The kernel's parent-death signal is no
    alternative: the parent may be a shell that outlives DVC.
    """
    global _watched
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _handle_signal)
    if "DVC_STAGE" in os.environ:
        process = _find_child_of_dvc()
        _watched = (process, _parent(process))


def watch_parent() -> None:
    """In a worker process: check that the launcher is alive instead of DVC, and tolerate repeated signals.

    The launcher forwards signals and decides how long to wait: a second signal, such as Ctrl-C from the terminal
    and again from torchrun, must not end a worker before it has saved.
    """
    global _watched, _is_worker
    _watched, _is_worker = (os.getpid(), os.getppid()), True


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
    """Whether a signal is pending or DVC died; takes microseconds."""
    global _received
    if _received is None and _watched is not None and _parent(_watched[0]) != _watched[1]:
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
    if not _deferring or (_received is not None and not _is_worker):
        raise Interrupted(128 + number)
    _received = number


def _find_child_of_dvc() -> int:
    """Find the process that DVC started: this one, or a shell such as dash that runs it as a child."""
    process = os.getpid()
    with suppress(OSError):  # no /proc, or another user's process
        while b"DVC_STAGE=" in Path(f"/proc/{_parent(process)}/environ").read_bytes():
            process = _parent(process)
    return process


def _parent(process: int) -> int:
    """Return the parent's process ID; 0 if the process is gone."""
    if process == os.getpid():
        return os.getppid()
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0
