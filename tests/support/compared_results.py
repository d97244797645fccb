"""Test sets, results of detectors, and tools/compare.py run on them."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import compare


def dataset(images: int, seed: int = 0) -> dict[str, Any]:
    """Three objects of two classes in each image."""
    random = np.random.default_rng(seed)
    ids = range(1, images + 1)
    tops = random.integers(60, size=3 * images).tolist()
    common = {"area": 1200, "iscrowd": 0, "state": 0}
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 400, "height": 100, "content": f"c{i}"} for i in ids],
        "annotations": [
            {"id": 3 * i + k, "image_id": i, "category_id": 1 + k % 2, "bbox": [100 * k, tops[3 * i - 3 + k], 40, 30]}
            | common
            for i in ids
            for k in range(3)
        ],
        "categories": [{"id": 1, "name": "bolt"}, {"id": 2, "name": "nut|2"}],
        "states": [],
    }


def detections(truth: dict[str, Any], found: float, seed: int = 0) -> list[dict[str, Any]]:
    """A fraction of the objects, slightly misplaced, and a false positive in some images."""
    random = np.random.default_rng(seed)
    rows = []
    for item in truth["annotations"]:
        off = random.normal(0, 2, 4)
        score = float(random.uniform(0.3, 1))
        if random.random() < found:
            box = np.maximum(np.add(item["bbox"], off), 1).tolist()
            rows.append({"image_id": item["image_id"], "category_id": item["category_id"], "bbox": box, "score": score})
    for image in truth["images"]:
        if random.random() < 0.3:
            rows.append({"image_id": image["id"], "category_id": 1, "bbox": [350, 0, 40, 40], "score": 0.4})
    return rows


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code; invalid input raises UserError."""
    monkeypatch.setattr(sys, "argv", ["compare.py", *arguments])
    try:
        compare.main()
    except SystemExit as ended:
        return int(ended.code or 0)
    return 0


def cells(text: str, first: str) -> list[str]:
    """The row of a Markdown table that begins with `first`."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {first} |")]
    return [cell.strip() for cell in line.strip("|").split(" | ")]
