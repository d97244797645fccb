"""Logs as one JSON object per line on standard output, without any image content."""

from __future__ import annotations

import json
import logging
import sys
from contextlib import suppress
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, TextIO

LOGGER = logging.getLogger("detector.serving")

if TYPE_CHECKING:  # generic at run time only from Python 3.11 on
    _StreamHandler = logging.StreamHandler[TextIO]
else:
    _StreamHandler = logging.StreamHandler


class JsonLines(logging.Formatter):
    """time, level and message, the fields given as `extra={"fields": ...}`, and a traceback."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
            "process": record.process,
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


class LogHandler(_StreamHandler):
    """A stream handler that says once on stderr that the log cannot be written, and goes on without it."""

    is_reported = False

    def handleError(self, record: logging.LogRecord) -> None:
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self.is_reported:
            self.is_reported = True
            with suppress(OSError):
                print(f"the log cannot be written ({error.strerror}): the service goes on without it", file=sys.stderr)


# For logging.config.dictConfig; uvicorn applies it in every worker.
CONFIG: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": JsonLines}},
    "handlers": {"stdout": {"()": LogHandler, "formatter": "json", "stream": "ext://sys.stdout"}},
    "loggers": {
        **{name: {"handlers": ["stdout"], "level": "INFO", "propagate": False} for name in ("uvicorn", LOGGER.name)},
        "python_multipart": {"level": "CRITICAL", "propagate": False},  # logs every malformed form
    },
}
