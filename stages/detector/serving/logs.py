"""Logs as one JSON object per line on standard output, without any image content."""

from __future__ import annotations

import json
import logging
from datetime import datetime, timezone
from typing import Any

LOGGER = logging.getLogger("detector.serving")


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


# For logging.config.dictConfig; uvicorn applies it in every worker.
CONFIG: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": JsonLines}},
    "handlers": {"stdout": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stdout"}},
    "loggers": {
        **{name: {"handlers": ["stdout"], "level": "INFO", "propagate": False} for name in ("uvicorn", LOGGER.name)},
        "python_multipart": {"level": "CRITICAL", "propagate": False},  # logs every malformed form
    },
}
