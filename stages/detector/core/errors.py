"""The exception for user errors, and how a command reports it."""

from __future__ import annotations

import errno
import os
import select
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from detector.core.text_output import escape_controls

_WRITTEN_BY_STAGES = ("data", "metrics", "models", "plots")  # folders
_MAX_CHARACTERS = 10_000  # of a message: it may quote names from data

_ADVICE = {
    errno.ENOSPC: "free some space and run the same command again",
    errno.EDQUOT: "free some space and run the same command again",
    errno.EROFS: "make it writable and run the same command again",
    errno.EACCES: "change its permissions and run the same command again",
    errno.EPERM: "change its permissions and run the same command again",
    errno.EMFILE: "raise the limit of open files (`ulimit -n`) and run the same command again",
    errno.EFBIG: "raise the limit of the file size (`ulimit -f`) and run the same command again",
}


class UserError(Exception):
    """An error that the user can fix: the message says where it is, what was found and expected, and what to do."""


def run_command(main: Callable[[], None]) -> None:
    """Run `main`; report an error that the user can fix as one message on stderr, without a traceback, and exit with 1.

    Such an error is a `UserError`, or an OSError: a missing file, a full disk, a folder without write permission. A
    reader of the output who left early (`| head`) ends the command quietly, with 141 as shells report it, and Ctrl-C
    with 130.
    """
    try:
        try:
            main()
        except SystemExit:  # with an exit code, or after `--help`
            _flush_output()
            raise
        _flush_output()  # here, where a full device can still be reported
    except UserError as error:
        _exit_with_message(str(error))
    except BrokenPipeError as error:
        if not _is_output_closed():  # another pipe, such as one to a process of this command
            _exit_with_message(describe_os_error(error))
        _discard_output()
        sys.exit(141)
    except KeyboardInterrupt:
        sys.exit(130)
    except OSError as error:
        _exit_with_message(describe_os_error(error))


def _is_output_closed() -> bool:
    """Whether the reader of standard output or standard error is gone."""
    if not hasattr(select, "poll"):  # Windows
        return True
    descriptors = select.poll()
    for descriptor in (1, 2):
        descriptors.register(descriptor, 0)
    return any(event & (select.POLLERR | select.POLLNVAL) for _, event in descriptors.poll(0))


def _flush_output() -> None:
    if sys.stdout is not None:  # None: it was closed before the command began
        sys.stdout.flush()


def describe_os_error(error: OSError) -> str:
    """The file, what is wrong with it, and what to do, in one line."""
    place = error.filename if error.filename2 is None else f"{error.filename} -> {error.filename2}"
    if isinstance(place, bytes):
        place = os.fsdecode(place)
    reason = error.strerror or str(error) or type(error).__name__
    if isinstance(error, FileNotFoundError) and place and Path(place).parts[0] in _WRITTEN_BY_STAGES:
        return f"{place} is missing; `dvc repro` runs the stages in order"
    advice = _ADVICE.get(error.errno or 0)
    return (f"{place}: " if place else "") + reason + (f"; {advice}" if advice else "")


def _exit_with_message(text: str) -> NoReturn:
    try:
        _flush_output()
    except OSError:
        _discard_output()
    if len(text) > _MAX_CHARACTERS:
        text = f"{text[:_MAX_CHARACTERS]}… and {len(text) - _MAX_CHARACTERS:,} more characters"
    sys.exit(f"\nerror: {escape_controls(text, keep=chr(10))}")  # printed by the interpreter, with exit code 1


def _discard_output() -> None:
    """Let the interpreter's last flush of stdout succeed, whatever stdout is."""
    with suppress(OSError, ValueError, AttributeError):
        descriptor = os.open(os.devnull, os.O_WRONLY)
        os.dup2(descriptor, sys.stdout.fileno())
        os.close(descriptor)
