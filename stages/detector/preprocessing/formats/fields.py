"""Type-checked access to the values of annotation files: an error names the place, the value and what was expected.

`where` is the place of the record, for example `dataset.jsonl:12`. Only types are checked here: NaN
and out-of-range numbers pass, since preprocess handles them. A bool is not a number.
"""

from __future__ import annotations

import json
import math
import re
import reprlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from detector.core.errors import UserError
from detector.core.path_lists import find_path_problem

T = TypeVar("T")
Record = Mapping[str, Any]

_MAX_SHOWN_CHARACTERS = 80
_MAX_NAME_CHARACTERS = 1_000
_SHORT = reprlib.Repr()  # of nested values only the start: they may be huge
_SHORT.maxlevel, _SHORT.maxstring, _SHORT.maxother = 2, 40, 40


def build_mismatch_error(where: str, found: Any, expected: str) -> UserError:
    """The error for a value other than `expected`; shows the value as JSON, shortened."""
    if isinstance(found, str):
        found = found[: _MAX_SHOWN_CHARACTERS + 1]
    shown = _SHORT.repr(found) if isinstance(found, (list, dict)) else json.dumps(found, ensure_ascii=False)
    if len(shown) > _MAX_SHOWN_CHARACTERS:
        shown = shown[:_MAX_SHOWN_CHARACTERS] + "…"
    return UserError(f"{where}: found {shown}, expected {expected}")


def parse_json(source: str, name: str, first_line: int = 1) -> Any:
    """Parse JSON that starts on `first_line` of the file `name`; a repeated key in an object is an error."""
    try:
        return _DECODER.decode(source)
    except json.JSONDecodeError as error:
        where = f"{name}:{first_line + error.lineno - 1}"
        found = source[error.pos : error.pos + 20] or "the end"
        problem = f"{error.msg} at column {error.colno}"
        raise build_mismatch_error(where, found, f"valid JSON ({problem})") from error
    except (ValueError, RecursionError) as error:  # huge integers, repeated keys, thousands of nested brackets
        raise UserError(f"{name}:{first_line}: invalid JSON: {error}") from error


def parse_number(where: str, source: str) -> float:
    """Parse a number given as text, as in XML and YOLO labels."""
    try:
        return float(source.replace("_", "?"))  # only Python accepts 1_000 as a number
    except ValueError as error:
        raise build_mismatch_error(where, source, "a number") from error


def read_string(where: str, record: Record, key: str) -> str:
    """A string that can name a class: neither empty nor too long, valid UTF-8, and without control characters."""
    return check_string(f"{where}: {key}", _get_required(where, record, key, "a string"))


def check_string(where: str, value: Any) -> str:
    if not isinstance(value, str) or len(value) > _MAX_NAME_CHARACTERS or find_path_problem(value):
        expected = f"a non-empty string of valid characters, at most {_MAX_NAME_CHARACTERS:,}"
        raise build_mismatch_error(where, value, expected)
    return value


def read_path(where: str, record: Record, key: str) -> str:
    """The path of an image as the file gives it; `read_raw_dataset` reports one that cannot be kept."""
    value = _get_required(where, record, key, "a string")
    if not isinstance(value, str):
        raise build_mismatch_error(f"{where}: {key}", value, "a string")
    return value


def read_number(where: str, record: Record, key: str) -> float:
    return _check_number(f"{where}: {key}", _get_required(where, record, key, "a number"))


def read_numbers(where: str, record: Record, key: str, count: int) -> list[float]:
    """A list of exactly `count` numbers."""
    values = read_list(where, record, key)
    if len(values) != count:
        raise build_mismatch_error(f"{where}: {key}", values, f"{count} numbers")
    return [_check_number(f"{where}: {key}[{index}]", value) for index, value in enumerate(values)]


def read_id(where: str, record: Record, key: str) -> int | str:
    """An id: an integer, also as 2.0 or "2", or else any text."""
    value = _get_required(where, record, key, "an id")
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"-?(0|[1-9][0-9]{0,17})", value):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, (int, str)):
        raise build_mismatch_error(f"{where}: {key}", value, "an integer or text")
    return value


def read_list(where: str, record: Record, key: str) -> list[Any]:
    value = _get_required(where, record, key, "a list")
    if not isinstance(value, list):
        raise build_mismatch_error(f"{where}: {key}", value, "a list")
    return value


def read_mapping(where: str, record: Record, key: str) -> dict[str, Any]:
    return check_mapping(f"{where}: {key}", _get_required(where, record, key, "an object"))


def check_mapping(where: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise build_mismatch_error(where, value, "an object")
    return value


def read_objects(where: str, record: Record, key: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a list, each with its place."""
    for index, value in enumerate(read_list(where, record, key)):
        place = f"{where}: {key}[{index}]"
        yield place, check_mapping(place, value)


def read_optional(read: Callable[[str, Record, str], T], where: str, record: Record, key: str) -> T | None:
    """`read(where, record, key)`, or None when the key is missing or null."""
    return None if record.get(key) is None else read(where, record, key)


def parse_image_size(width: float | None, height: float | None) -> tuple[int, int] | None:
    """The annotated image size in whole pixels; None if it is not given (some tools write 0 instead)."""
    if not all(side is not None and math.isfinite(side) and side > 0 for side in (width, height)):
        return None
    return round(width or 0), round(height or 0)


def _get_required(where: str, record: Record, key: str, expected: str) -> Any:
    if key not in record:
        raise UserError(f'{where}: the key "{key}" is missing, expected {expected}')
    return record[key]


def _check_number(where: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise build_mismatch_error(where, value, "a number")
    try:
        return float(value)
    except OverflowError:  # an integer beyond 1.8e308, which JSON allows
        return math.inf if value > 0 else -math.inf


def _reject_repeated_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    record = dict(pairs)
    if len(record) != len(pairs):
        repeated = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise ValueError(f'the key "{repeated}" is repeated in one object')
    return record


_DECODER = json.JSONDecoder(object_pairs_hook=_reject_repeated_keys)
