"""A folder with the smallest real training in it: eight images of 64 x 64, three epochs of four batches."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2]
SETTINGS = {"size": "64", "epochs": "3", "batch_size": "2", "threads": "1", "lr": "0.01", "cache_gb": "1"}
WRITTEN = ("models", "metrics")


def make_folder(root: Path, **changes: str) -> Path:
    """data/coco, images and params.yaml, as the stages above train leave them; the same bytes each time."""
    numbers = np.random.default_rng(0)
    (root / "data/coco").mkdir(parents=True)
    for split, count in (("train", 8), ("val", 3)):
        images, annotations = [], []
        for index in range(1, count + 1):
            pixels = numbers.integers(0, 80, (64, 64, 3), dtype=np.uint8)
            left, top = (int(value) for value in numbers.integers(4, 28, 2))
            pixels[top : top + 30, left : left + 30] += 150
            name = f"data/{split}_{index}.png"
            Image.fromarray(pixels).save(root / name)
            images.append({"id": index, "file_name": name, "width": 64, "height": 64})
            annotations.append({"id": index, "image_id": index, "category_id": 1, "bbox": [left, top, 30, 30],
                                "area": 900, "iscrowd": 0, "state": 0})  # fmt: skip
        coco = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "a"}], "states": []}
        (root / f"data/coco/{split}.json").write_text(json.dumps(coco))
    set_params(root, **SETTINGS, **changes)
    return root


def set_params(root: Path, **values: str) -> None:
    """Write the project's params.yaml, with other values of the section `train`."""
    path = root / "params.yaml"
    text = (path if path.exists() else ROOT / "params.yaml").read_text()
    before, after = text.split("\ntrain:\n")
    for name, value in values.items():
        after, count = re.subn(rf"^  {name}: \S+", f"  {name}: {value}", after, count=1, flags=re.MULTILINE)
        assert count == 1, f"params.yaml has no train.{name}"
    path.write_text(f"{before}\ntrain:\n{after}")


def digests(root: Path) -> dict[str, str]:
    """SHA-256 of each file that training leaves behind."""
    files = sorted(path for folder in WRITTEN for path in (root / folder).rglob("*") if path.is_file())
    return {str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
