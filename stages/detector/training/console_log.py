"""A copy of what a training prints, in a log file."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Any, TextIO, cast

from detector.core.errors import UserError

MAX_BYTES = 1_000_000  # then the file becomes NAME.1, which replaces an older one


@contextmanager
def keep_console_log(path: Path) -> Iterator[None]:
    """Append the lines that the block prints, and the error that ends it, to the file at `path`, each with its time.

    A line is in the file as soon as it is printed. Progress bars are left out. A file that cannot be written costs a
    warning, not the training.
    """
    log = _LogFile(path, sys.stderr)
    log.append(f"--- process {os.getpid()} starts")
    output, errors = (cast("TextIO", _Copy(stream, log)) for stream in (sys.stdout, sys.stderr))
    with redirect_stdout(output), redirect_stderr(errors):
        try:
            yield
        except UserError as error:
            log.append(f"error: {error}")
            raise
        except Exception:
            log.append(traceback.format_exc())
            raise
        finally:
            log.close()


class _RaisingHandler(RotatingFileHandler):
    """Raises errors instead of printing them, which would come back here."""

    def handleError(self, record: logging.LogRecord) -> None:
        raise


class _LogFile:
    """Lines with their time, until the file cannot be written; `terminal` gets the warning."""

    def __init__(self, path: Path, terminal: TextIO) -> None:
        self._path, self._terminal = path, terminal
        self._handler: RotatingFileHandler | None = None
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            # Errors: the name of a file that is not UTF-8 has lone surrogates.
            self._handler = _RaisingHandler(
                path, maxBytes=MAX_BYTES, backupCount=1, encoding="utf-8", errors="backslashreplace"
            )
            self._handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%Y-%m-%d %H:%M:%S"))
        except OSError as error:
            self._warn(error)

    def append(self, text: str) -> None:
        for line in text.splitlines():
            if self._handler is not None and line.strip():
                try:
                    self._handler.emit(logging.makeLogRecord({"msg": line}))
                except OSError as error:
                    self.close()
                    self._warn(error)

    def close(self) -> None:
        if self._handler is not None:
            with suppress(OSError):  # what could not be written cannot be written now
                self._handler.close()
            self._handler = None

    def _warn(self, error: OSError) -> None:
        print(f"warning: {self._path} cannot be written ({error.strerror})", file=self._terminal, flush=True)


class _Copy:
    """A stream that passes everything on, and each line also to the log, as a terminal shows it in the end."""

    def __init__(self, stream: TextIO, log: _LogFile) -> None:
        self._stream, self._log, self._line = stream, log, ""

    def write(self, text: str) -> int:
        """Write to the stream; after a carriage return the line starts anew."""
        written = self._stream.write(text)
        *lines, self._line = (self._line + text.replace("\r\n", "\n")).split("\n")
        for line in lines:
            self._log.append(line.rpartition("\r")[2])
        self._line = self._line.rpartition("\r")[2]
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
