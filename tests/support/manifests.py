"""Generated manifest images for the tests of splitting."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from detector.manifest.manifest import CleanBox, CleanImage
from detector.splitting.settings import SplitParams

RATIOS = {"train": 0.7, "val": 0.15, "test": 0.15}


def params(**changes: Any) -> SplitParams:
    return SplitParams(**{"strategy": "stratified", "ratios": RATIOS, "seed": 0, **changes})


def image(number: int, *labels: str, **changes: Any) -> CleanImage:
    """An image with one box per label; `bolt:intact` has a state."""
    path = f"data/{number}.jpg"
    boxes = []
    for label in labels:
        name, _, state = label.partition(":")
        boxes.append(CleanBox(name, (0.0, 0.0, 8.0, 8.0), state or None))
    content = f"{random.Random(number).getrandbits(64):016x}"
    made = CleanImage(path, path, content, 8, 8, path, None, None, tuple(boxes))
    return replace(made, **changes)


def dataset(count: int, classes: int, seed: int = 0, frames: int = 1) -> list[CleanImage]:
    """Images with up to 6 boxes, in groups of up to `frames`; class k is 1.2 times as frequent as class k + 1."""
    rng = random.Random(seed)
    weights = [1.2**-k for k in range(classes)]
    images: list[CleanImage] = []
    while len(images) < count:
        names = rng.choices([f"class{k:02}" for k in range(classes)], weights, k=rng.randrange(7))
        labels = [f"{name}:{rng.choice(['intact', 'damaged', ''])}" for name in names]
        group = f"data/{len(images)}.jpg"
        for _ in range(rng.randint(1, frames)):
            images.append(image(len(images), *labels, group=group))
    return images[:count]
