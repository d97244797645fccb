"""Reading JSON that others wrote: within limits, and with an error where JSON itself would let the last value win."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

from detector.core.errors import UserError
from detector.core.input_files import read_text


def read_json(path: Path, max_bytes: int) -> Any:
    """The value in the JSON file at `path`. Raises as `input_files.read_text` and `parse_json`."""
    return parse_json(read_text(path, max_bytes), str(path))


def parse_json(text: str, place: str) -> Any:
    """Parse JSON. Raises UserError naming `place`: for a syntax error, NaN, a repeated key or endless nesting."""
    try:
        return json.loads(text, object_pairs_hook=_build_object, parse_constant=_refuse_constant)
    except RecursionError:
        raise UserError(f"{place}: nested too deeply for JSON of this project") from None
    except ValueError as error:  # also for integers of thousands of digits
        raise UserError(f"{place}: not valid JSON: {error}") from None


def _build_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    built = dict(pairs)
    if len(built) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {repeated[:80]!r} stands twice in one object")
    return built


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number in JSON")
