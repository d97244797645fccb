"""Lists of image paths as text, one per line, and the names that such a line cannot hold."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from pathlib import Path

from detector.core.input_files import read_text
from detector.core.output_files import write_text

MAX_PATH_LENGTH = 4096  # characters; no system opens a longer one
_MAX_BYTES = 4 << 30


def find_path_problem(path: str) -> str:
    """Why a path or the name of a class cannot be kept in lists, tables and charts, or "" if it can.

    It may be empty, too long, not UTF-8, or have control characters or U+FFFE and U+FFFF, which XML does not allow.
    """
    if len(path) > MAX_PATH_LENGTH:
        return f"the name has more than {MAX_PATH_LENGTH} characters"
    if not path.strip():
        return "the name is empty"
    if path.isascii() and path.isprintable():
        return ""
    for character in path:
        category = unicodedata.category(character)
        if category == "Cs":
            return "the name is not UTF-8"
        if category in ("Cc", "Zl", "Zp"):
            return f"the name has the control character U+{ord(character):04X}"
        if character in "\ufffe\uffff":
            return f"the name has U+{ord(character):04X}, which is no character"
    return ""


def write_path_list(path: Path, names: Iterable[str]) -> None:
    """Write one name per line. Raises ValueError for a name that `find_path_problem` objects to."""
    lines = []
    for name in names:
        if problem := find_path_problem(name):
            raise ValueError(f"{name!r}: {problem}")
        lines.append(f"{name}\n")
    write_text(path, "".join(lines))


def read_path_list(path: Path) -> list[str]:
    """The names in a list, in its order; empty lines are skipped. Raises UserError and OSError as `read_text`."""
    return [name for line in read_text(path, _MAX_BYTES).split("\n") if (name := line.removesuffix("\r"))]
