"""Checked access to the values of annotation files: each error says where, what was found, what was expected.

`where` is the place of the record, for example `dataset.jsonl:12`. Only types are checked here: NaN
and absurd numbers pass, since preprocess judges them. A bool is not a number.
"""

from __future__ import annotations

import json
import math
import reprlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from detector.core.errors import UserError

T = TypeVar("T")
Record = Mapping[str, Any]

_SHOWN_CHARACTERS = 80


def mismatch(where: str, found: Any, expected: str) -> UserError:
    """The error for a value that is not what `expected` says; the value is shown as JSON, shortened."""
    shown = reprlib.repr(found) if isinstance(found, (list, dict)) else json.dumps(found, ensure_ascii=False)
    if len(shown) > _SHOWN_CHARACTERS:
        shown = shown[:_SHOWN_CHARACTERS] + "…"
    return UserError(f"{where}: found {shown}, expected {expected}")


def parse_json(source: str, name: str, first_line: int = 1) -> Any:
    """Parse JSON that begins on `first_line` of the file `name`; a key twice in one object is an error."""
    try:
        return _DECODER.decode(source)
    except json.JSONDecodeError as error:
        where = f"{name}:{first_line + error.lineno - 1}"
        found = source[error.pos : error.pos + 20] or "the end"
        problem = f"{error.msg} at column {error.colno}"
        raise mismatch(where, found, f"valid JSON ({problem})") from error
    except (ValueError, RecursionError) as error:  # huge integers, repeated keys, brackets in thousands
        raise UserError(f"{name}:{first_line}: cannot be read as JSON: {error}") from error


def parse_number(where: str, source: str) -> float:
    """A number written as text, as in XML and YOLO's labels."""
    try:
        return float(source.replace("_", "?"))  # Python alone reads 1_000 as a number
    except ValueError as error:
        raise mismatch(where, source, "a number") from error


def text(where: str, record: Record, key: str) -> str:
    """A string that can be a name of a class or of a file: neither empty nor impossible to write as UTF-8."""
    return as_text(f"{where}: {key}", _required(where, record, key, "a string"))


def as_text(where: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip() or "\0" in value or not _is_unicode(value):
        raise mismatch(where, value, "a non-empty string of valid characters")
    return value


def number(where: str, record: Record, key: str) -> float:
    return _number(f"{where}: {key}", _required(where, record, key, "a number"))


def numbers(where: str, record: Record, key: str, count: int) -> list[float]:
    """A list of exactly `count` numbers."""
    values = array(where, record, key)
    if len(values) != count:
        raise mismatch(f"{where}: {key}", values, f"{count} numbers")
    return [_number(f"{where}: {key}[{index}]", value) for index, value in enumerate(values)]


def integer(where: str, record: Record, key: str) -> int:
    value = _required(where, record, key, "an integer")
    if isinstance(value, bool) or not isinstance(value, int):
        raise mismatch(f"{where}: {key}", value, "an integer")
    return value


def array(where: str, record: Record, key: str) -> list[Any]:
    value = _required(where, record, key, "a list")
    if not isinstance(value, list):
        raise mismatch(f"{where}: {key}", value, "a list")
    return value


def mapping(where: str, record: Record, key: str) -> dict[str, Any]:
    return as_mapping(f"{where}: {key}", _required(where, record, key, "an object"))


def as_mapping(where: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise mismatch(where, value, "an object")
    return value


def objects(where: str, record: Record, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a list, each with its own place."""
    for index, value in enumerate(array(where, record, key)):
        place = f"{where}: {key}[{index}]"
        yield place, as_mapping(place, value)


def optional(read: Callable[[str, Record, str], T], where: str, record: Record, key: str) -> T | None:
    """`read(where, record, key)`, or None when the key is missing or null."""
    return None if record.get(key) is None else read(where, record, key)


def known_size(width: float | None, height: float | None) -> tuple[int, int] | None:
    """Whole pixels of an annotated image; None where it is not told: tools write 0 for that too."""
    if not all(side is not None and math.isfinite(side) and side > 0 for side in (width, height)):
        return None
    return round(width or 0), round(height or 0)


def _required(where: str, record: Record, key: str, expected: str) -> Any:
    if key not in record:
        raise UserError(f'{where}: the key "{key}" is missing, expected {expected}')
    return record[key]


def _number(where: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise mismatch(where, value, "a number")
    try:
        return float(value)
    except OverflowError:  # an integer beyond 1.8e308, which JSON may hold
        return math.inf if value > 0 else -math.inf


def _is_unicode(value: str) -> bool:
    """False for lone surrogates, which JSON's escapes can make and no UTF-8 file can hold."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        again = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f'the key "{again}" stands twice in one object')
    return record


_DECODER = json.JSONDecoder(object_pairs_hook=_without_repeats)
