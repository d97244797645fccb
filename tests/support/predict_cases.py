"""Run `tools/predict.py` like a user: in a separate process, in a folder with a model and images."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.support.bright_model import make_image, write_bright

SCRIPT = Path(__file__).parents[2] / "tools" / "predict.py"


def run_predict(folder: Path, *arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run the command with `model.onnx`; it must end with the exit code `code` and without a traceback."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "model.onnx", *arguments], cwd=folder,
        capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done


def make_predict_folder(folder: Path, count: int = 0) -> Path:
    """Create model.onnx and photos/00.png … with one white object each, and a red one in every third image."""
    write_bright(folder / "model.onnx")
    (folder / "photos").mkdir()
    for number in range(count):
        red = (80, 8, 112, 24) if number % 3 == 0 else None
        make_image((128, 96), (16, 32, 64 + 2 * number, 80), red).save(folder / f"photos/{number:02}.png")
    return folder


def read_predictions(folder: Path) -> dict[str, Any]:
    """Read the predictions written by the command."""
    predictions: dict[str, Any] = json.loads((folder / "predictions/predictions.json").read_text())
    return predictions
