"""Writing results: the same numbers always give the same bytes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from detector.core.output_files import replace_file, write_text
from detector.engine.detections import Predictions


def write_metrics_json(path: Path, numbers: dict[str, Any]) -> None:
    """Indented JSON, with floats to 12 digits; NaN, which JSON does not have, raises ValueError."""
    text = json.dumps(round_floats(numbers), indent=2, ensure_ascii=False, allow_nan=False)
    # Put each list of numbers, such as a row of a matrix, on one line; JSON strings never contain a line break.
    compact = re.sub(r"\[\n\s+([^\[\]{}]*?)\n\s+\]", lambda match: "[" + re.sub(r"\n\s+", " ", match[1]) + "]", text)
    write_text(path, compact + "\n")


def write_predictions(path: Path, predictions: Predictions) -> None:
    """COCO results, one detection per line."""
    with replace_file(path) as new, new.open("w", encoding="utf-8", newline="\n") as file:
        for number, row in enumerate(predictions.to_rows()):
            file.write((",\n" if number else "[") + json.dumps(row, separators=(",", ":")))
        file.write("]\n" if len(predictions) else "[]\n")


def write_plot(path: Path, rows: list[dict[str, Any]]) -> None:
    """A list of dictionaries as DVC's plots read it, one per line."""
    write_text(path, "[" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "]\n")


def round_floats(value: Any) -> Any:
    """The same structure with floats to 12 digits; further digits depend on the summation order."""
    if isinstance(value, dict):
        return {key: round_floats(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [round_floats(inner) for inner in value]
    return round(value, 12) if isinstance(value, float) else value
