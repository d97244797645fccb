"""Generated pictures with objects that a detector can learn in a few steps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from detector.engine.dataset import Batch, Sample, collate
from detector.engine.structures import Targets

CLASSES = 3
COLORS = ((230, 60, 60), (60, 210, 60), (70, 80, 240))  # of each class
MAX_OBJECTS = 6


def draw_picture(rng: np.random.Generator, size: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A picture uint8 [H, W, 3] of noise with rectangles, and boxes with class numbers, float32 [N, 5]."""
    height, width = size
    pixels = rng.integers(0, 90, (height, width, 3), dtype=np.uint8)
    objects = []
    for _ in range(int(rng.integers(1, MAX_OBJECTS + 1))):
        box_width, box_height = (int(rng.integers(side // 6, side // 3)) for side in (width, height))
        left, top = int(rng.integers(width - box_width)), int(rng.integers(height - box_height))
        label = int(rng.integers(CLASSES))
        noise = rng.integers(-20, 20, (box_height, box_width, 3))
        pixels[top : top + box_height, left : left + box_width] = np.clip(COLORS[label] + noise, 0, 255)
        objects.append((left, top, left + box_width, top + box_height, label + 1))
    return pixels, np.array(objects, np.float32)


def make_sample(seed: int, size: tuple[int, int], row: int) -> Sample:
    """A picture that fills its input of `size` (H, W), with its objects."""
    pixels, objects = draw_picture(np.random.default_rng(seed), size)
    labels = torch.from_numpy(objects[:, 4]).long()
    return Sample(
        torch.from_numpy(pixels.transpose(2, 0, 1).copy()),
        torch.from_numpy(objects[:, :4].copy()),
        labels,
        torch.zeros_like(labels),
        row,
        (1.0, 1.0),
        size,
    )


def make_batches(count: int, batch: int, size: tuple[int, int], seed: int = 0) -> list[Batch]:
    """`count` different batches; on a machine with a GPU in pinned memory, as the loaders deliver them."""
    first = seed * 100_000
    numbers = range(first, first + count * batch)
    samples = [make_sample(number, size, number - first) for number in numbers]
    batches = [collate(samples[start : start + batch]) for start in range(0, len(samples), batch)]
    return [pin(one) for one in batches] if torch.cuda.is_available() else batches


def pin(batch: Batch) -> Batch:
    """The batch in pinned memory."""
    targets = Targets(*(part.pin_memory() for part in batch.targets))
    return batch._replace(images=batch.images.pin_memory(), targets=targets)


def repeat_batches(batches: list[Batch], steps: int) -> Iterator[Batch]:
    """`steps` batches, in turn."""
    return islice(cycle(batches), steps)


def write_training_folder(folder: Path, images: int, side: int) -> None:
    """Write pictures and the COCO files of train and val, as coco-convert does."""
    (folder / "data/coco").mkdir(parents=True)
    categories = [{"id": number + 1, "name": f"class {number + 1}"} for number in range(CLASSES)]
    for split, count in (("train", images), ("val", max(2, images // 4))):
        entries: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for number in range(1, count + 1):
            pixels, objects = draw_picture(np.random.default_rng((number, len(split))), (side, side))
            name = f"data/{split}_{number}.png"
            Image.fromarray(pixels).save(folder / name)
            entries.append({"id": number, "file_name": name, "width": side, "height": side})
            for left, top, right, bottom, label in objects.tolist():
                width, height = right - left, bottom - top
                box = {"bbox": [left, top, width, height], "area": width * height, "iscrowd": 0, "state": 0}
                annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": int(label), **box})
        coco = {"images": entries, "annotations": annotations, "categories": categories, "states": []}
        (folder / f"data/coco/{split}.json").write_text(json.dumps(coco), encoding="utf-8")
