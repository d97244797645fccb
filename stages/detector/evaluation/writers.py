"""How results are written: always the same bytes for the same numbers."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from detector.engine.detections import Prediction


def write_numbers(path: Path, numbers: dict[str, Any]) -> None:
    """Indented JSON, with floats to 12 digits; NaN raises ValueError, for it is no JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(rounded(numbers), indent=2, ensure_ascii=False, allow_nan=False)
    # The points of a curve and the rows of a matrix each on one line; within a string no line ends.
    short = re.sub(r"\[\n\s+([^\[\]{}]*?)\n\s+\]", lambda found: "[" + re.sub(r"\n\s+", " ", found[1]) + "]", text)
    path.write_text(short + "\n", encoding="utf-8")


def write_predictions(path: Path, predictions: list[Prediction]) -> None:
    """COCO results, one detection a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(prediction, separators=(",", ":")) for prediction in predictions)
    path.write_text(f"[{lines}]\n", encoding="utf-8")


def write_plot(path: Path, rows: list[dict[str, Any]]) -> None:
    """A list of dictionaries as DVC's plots read it, one a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("[" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "]\n", encoding="utf-8")


def rounded(value: Any) -> Any:
    """The same structure with floats to 12 digits: more are noise of the summation order."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(inner) for inner in value]
    return round(value, 12) if isinstance(value, float) else value
