"""Opening files that others made: a folder, a pipe or a device in their place is an error, and sizes are bounded."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from detector.core.errors import UserError

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def find_kind_problem(status: os.stat_result) -> str:
    """What a path is instead of a file, such as "a folder"; "" for a file. To open a pipe would wait for good."""
    kind = stat.S_IFMT(status.st_mode)
    return "" if kind == stat.S_IFREG else _KINDS.get(kind, "no file")


def check_is_file(path: Path, max_bytes: int | None = None) -> None:
    """Raise UserError if `path` is no file or has more than `max_bytes`, and OSError if it is missing."""
    status = path.stat()
    if problem := find_kind_problem(status):
        raise UserError(f"{path} is {problem}, expected a file")
    if max_bytes is not None and status.st_size > max_bytes:
        raise UserError(f"{path} has {status.st_size >> 20:,} MB, expected at most {max_bytes >> 20:,}")


def read_text(path: Path, max_bytes: int) -> str:
    """The text of a file with the line ends it has. Raises as `check_is_file`, and UserError if it is not UTF-8."""
    check_is_file(path, max_bytes)
    try:
        return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text: {error}") from None
