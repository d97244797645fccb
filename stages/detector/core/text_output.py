"""Text that comes from data, made harmless for a terminal and for a spreadsheet."""

from __future__ import annotations

import re
import unicodedata

_FORMULA = re.compile(r"'*[=+\-@]")  # a spreadsheet runs a cell that begins like this; ' makes it plain text
_HARMFUL = frozenset(("Cc", "Cs", "Zl", "Zp"))  # control characters, lone surrogates, separators of lines


def escape_controls(text: str, keep: str = "") -> str:
    """Replace control characters and undecodable bytes by escapes such as \\x1b, except the characters in `keep`."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character if character in keep or unicodedata.category(character) not in _HARMFUL else _escape(character)
        for character in text
    )


def _escape(character: str) -> str:
    number = ord(character)
    return f"\\x{number:02x}" if number < 0x100 else f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"


def format_cell(value: object) -> object:
    """A value as a cell of a CSV file: no control characters, and text that looks like a formula begins with '.

    A number stays as it is, as a value and as text.
    """
    if not isinstance(value, str):
        return value
    text = escape_controls(value)
    return f"'{text}" if _FORMULA.match(text) and not _is_number(text) else text


def parse_cell(text: str) -> str:
    """Undo the quote of `format_cell`."""
    return text[1:] if text.startswith("'") and _FORMULA.match(text) else text


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
