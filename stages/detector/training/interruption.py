"""Being told to stop: SIGTERM, Ctrl-C, and the death of the `dvc` that started this process.

Outside of `deferred` a signal ends the process at once. Inside, it is only noted: the loop asks `requested`
where it can save, and raises `Interrupted`. A second signal always ends the process at once.
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

# A process has one set of signal handlers, so these are the module's.
_deferring = False
_received: int | None = None
_watched: tuple[int, int] | None = None  # a process and the parent that it should have
_following = False


class Interrupted(SystemExit):
    """Ends the process as shells expect after a signal: exit code 128 + its number, no traceback."""


def listen() -> None:
    """Handle SIGTERM and SIGINT and, when DVC started this process, watch that DVC is alive.

    A `dvc` that is killed would otherwise leave the training running behind it. A script that was started by
    hand may outlive its shell (nohup), as may one whose shell has it ignore Ctrl-C (`&`). A kernel's death
    signal would not do: it comes when the parent dies, and that can be a shell which outlives DVC.
    """
    global _watched
    for number in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _note)
    if "DVC_STAGE" in os.environ:
        process = _below_dvc()
        _watched = (process, _parent(process))


def follow() -> None:
    """For a process that trains with others: watch the one that started it instead of DVC.

    That one passes signals on and knows when it has waited enough: a second signal, such as Ctrl-C from the
    terminal and again from torchrun, is no reason to end without saving.
    """
    global _watched, _following
    _watched, _following = (os.getpid(), os.getppid()), True


def ignore(_worker: int = 0) -> None:
    """For processes that prepare data: the one that trains decides when they end."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)


@contextmanager
def deferred() -> Iterator[None]:
    """Signals are noted until the block asks for them."""
    global _deferring
    _deferring = True
    try:
        yield
    finally:
        _deferring = False


def requested() -> bool:
    """Whether a signal came that has not been obeyed yet, or DVC died; takes microseconds."""
    global _received
    if _received is None and _watched is not None and _parent(_watched[0]) != _watched[1]:
        _received = signal.SIGTERM
    return _received is not None


def interrupt(message: str = "") -> Interrupted:
    """The exception to raise once everything is saved; `message` goes to stderr."""
    global _received
    number, _received = _received or signal.SIGTERM, None
    if message:
        with suppress(OSError):  # whoever was listening may be dead
            print(f"\n{signal.Signals(number).name}: {message}", file=sys.stderr, flush=True)
    return Interrupted(128 + number)


def until_requested(items: Iterable[Item]) -> Iterator[Item]:
    """The items, as long as nobody asks to stop; then StopRequested, before the next one is taken."""
    for item in items:
        if requested():
            raise StopRequested
        yield item


class StopRequested(Exception):
    """Work that can be repeated was left half done, because a signal came."""


def _note(number: int, frame: FrameType | None) -> None:
    global _received
    if not _deferring or (_received is not None and not _following):
        raise Interrupted(128 + number)
    _received = number


def _below_dvc() -> int:
    """The process that DVC started: this one, or a shell that did not hand its process over, as dash does not."""
    process = os.getpid()
    with suppress(OSError):  # no /proc, or another user's process
        while b"DVC_STAGE=" in Path(f"/proc/{_parent(process)}/environ").read_bytes():
            process = _parent(process)
    return process


def _parent(process: int) -> int:
    """The parent's number; 0 when the process is gone."""
    if process == os.getpid():
        return os.getppid()
    try:
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0
