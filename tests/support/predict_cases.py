"""Running `tools/predict.py` as a user does: another process, in a folder with a model and images."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.bright_model import picture, write_bright

SCRIPT = Path(__file__).parents[2] / "tools" / "predict.py"


def run(folder: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """The command with `model.onnx`; an AssertionError unless it ends with `code` and without a traceback."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "model.onnx", *arguments], cwd=folder,
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def make_folder(folder: Path, count: int = 0) -> Path:
    """model.onnx, and photos/00.png … with a white object, in every third image a red one."""
    write_bright(folder / "model.onnx")
    (folder / "photos").mkdir()
    for number in range(count):
        red = (80, 8, 112, 24) if number % 3 == 0 else None
        picture((128, 96), (16, 32, 64 + 2 * number, 80), red).save(folder / f"photos/{number:02}.png")
    return folder


def coco(folder: Path) -> dict[str, Any]:
    """What was written."""
    return json.loads((folder / "predictions/predictions.json").read_text())
