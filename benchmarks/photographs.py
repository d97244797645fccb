"""Generated JPEGs that take as long to decode as photographs: textured at all scales, about 60 KB."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SIZE = (640, 480)  # width, height
OCTAVES = ((40, 0.3), (160, 0.2), (640, 0.08))  # noise pixels across the image, and blend weight
BOXES = 5
CORNERS = ("x_min_normalized", "y_min_normalized", "x_max_normalized", "y_max_normalized")


def generate_photograph(seed: int, size: tuple[int, int] = SIZE) -> Image.Image:
    """Soft colors and sharp discs under noise of several scales."""
    rng = np.random.default_rng(seed)
    image = _noise(rng, 8, size)
    brush = ImageDraw.Draw(image)
    for left, top, width, height in rng.integers((0, 0, 30, 30), (size[0], size[1], 160, 160), (6, 4)).tolist():
        brush.ellipse((left, top, left + width, top + height), fill=tuple(rng.integers(0, 256, 3).tolist()))
    for across, weight in OCTAVES:
        image = Image.blend(image, _noise(rng, across, size), weight)
    return image


def _noise(rng: np.random.Generator, across: int, size: tuple[int, int]) -> Image.Image:
    pixels = rng.integers(0, 256, (across * size[1] // size[0], across, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)


def write_photographs(folder: Path, count: int, size: tuple[int, int] = SIZE) -> list[Path]:
    """Write `count` different images."""
    folder.mkdir(parents=True)
    paths = [folder / f"{number:06d}.jpg" for number in range(count)]
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda k: generate_photograph(k, size).save(paths[k], "JPEG", quality=85), range(count)))
    return paths


def write_dataset(paths: list[Path], listing: Path) -> None:
    """Write a JSONL dataset of these images, with random boxes."""
    rng = np.random.default_rng(0)
    lines = []
    for path in paths:
        corners = rng.uniform((0, 0, 0.6, 0.6), (0.4, 0.4, 1, 1), (BOXES, 4)).round(6).tolist()
        boxes = [{"annotation_label": "disc", **dict(zip(CORNERS, box, strict=True))} for box in corners]
        name = path.relative_to(listing.parent).as_posix()
        lines.append(json.dumps({"image_path": name, "bounding_box_annotations": boxes}) + "\n")
    listing.write_text("".join(lines), encoding="utf-8")
