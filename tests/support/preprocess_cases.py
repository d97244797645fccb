"""Run the preprocess stage on a generated dataset."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

SCRIPT = Path(__file__).parents[2] / "stages" / "preprocess.py"
DECISIONS = Path(__file__).parents[2] / "data" / "decisions.csv"
PARAMS: dict[str, Any] = {
    "dataset": "data/raw/set",
    "format": "jsonl",
    "classes": None,
    "states": ["intact", "absent"],
    "min_trust": 0.5,
    "min_box_size": 3,
    "duplicate_iou": 0.9,
    "near_duplicate_similarity": 0.85,
    "on_error": "drop",
}
BOX = (0.1, 0.1, 0.5, 0.5)


def run_preprocess(folder: Path, *options: str, **changes: Any) -> subprocess.CompletedProcess[str]:
    """Run the stage in `folder` with options of Python and changes of PARAMS."""
    (folder / "params.yaml").write_text(yaml.safe_dump({"preprocess": {**PARAMS, **changes}}), encoding="utf-8")
    decisions = folder / "data/decisions.csv"
    if not decisions.exists():
        decisions.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(DECISIONS, decisions)
    environment = {name: value for name, value in os.environ.items() if name != "DVC_ROOT"}
    return subprocess.run(
        [sys.executable, "-W", "error", *options, str(SCRIPT)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def build_box(*xyxy: float, label: str = "bolt", **fields: Any) -> dict[str, Any]:
    names = ("x_min_normalized", "y_min_normalized", "x_max_normalized", "y_max_normalized")
    return {"annotation_label": label, **dict(zip(names, xyxy, strict=True)), **fields}


def build_line(path: str, *boxes: dict[str, Any], **fields: Any) -> str:
    return json.dumps({"image_path": path, "bounding_box_annotations": boxes, **fields})


def build_image(seed: int, width: int = 96, height: int = 64) -> Image.Image:
    cells = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), np.uint8)
    return Image.fromarray(cells.repeat(8, 0).repeat(8, 1))


def write_lines(folder: Path, *lines: str) -> None:
    dataset = folder / "data" / "raw" / "set"
    dataset.mkdir(parents=True, exist_ok=True)
    (dataset / "dataset.jsonl").write_text("\n".join(lines), encoding="utf-8")
