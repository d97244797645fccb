"""What the page's code works on: detections and objects as columns, and the pictures."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detector.core.images import open_image
from detector.evaluation.error_types import KINDS, RIGHT, Pairs
from detector.evaluation.galleries import Shown, ranked_images

DETECTIONS = 200_000  # the page counts the best so many
RANKED = 60  # images of a gallery in the page
# Longest side in pixels of a picture, by how many images there are at most.
SIZES = ((60, 720), (150, 560), (10**9, 420))
QUALITY = 78  # of JPEG


def columns(
    pairs: Pairs,
    coco: dict[str, Any],
    thresholds: NDArray[np.float64],
    galleries: dict[str, list[Shown]],
    pictured: set[int],
) -> dict[str, Any]:
    """Columns for JSON, with boxes of the images [places] in `pictured` only; at most DETECTIONS detections."""
    images = sorted(coco["images"], key=lambda image: int(image["id"]))
    kept = slice(0, DETECTIONS)
    objects = pairs.objects
    ranks = ranked_images(pairs, len(images), thresholds)
    return {
        "classes": [category["name"] for category in sorted(coco["categories"], key=lambda one: int(one["id"]))],
        "states": [state["name"] for state in coco.get("states", [])],
        "thresholds": thresholds.tolist(),
        "kinds": list(KINDS),
        "images": [[image["file_name"], image["width"], image["height"]] for image in images],
        "galleries": {name: rows[:RANKED].tolist() for name, rows in ranks.items()},
        "left_out": max(0, len(pairs.scores) - DETECTIONS),
        "scores": pairs.scores[kept].tolist(),
        "image": pairs.images[kept].tolist(),
        "category": pairs.categories[kept].tolist(),
        "state": pairs.states[kept].tolist(),
        "hit": pairs.hits[kept].astype(int).tolist(),
        "partner": pairs.partners[kept].tolist(),
        "kind": pairs.kinds[kept].tolist(),
        "boxes": _boxes(pairs.boxes_xywh[kept], pairs.images[kept], pictured),
        "objects": {
            "id": objects.ids.tolist(),
            "image": objects.images.tolist(),
            "category": objects.categories.tolist(),
            "state": objects.states.tolist(),
            "absent": objects.absent.astype(int).tolist(),
            "boxes": _boxes(objects.boxes_xywh, objects.images, pictured),
        },
    }


def embedded_pictures(
    pairs: Pairs,
    coco: dict[str, Any],
    galleries: dict[str, list[Shown]],
    thresholds: NDArray[np.float64],
    root: Path,
    budget: int,
) -> dict[int, str]:
    """JPEGs as base64 by the images' places, while they fit into `budget` characters.

    First the images of the galleries, then those with most mistakes.
    """
    images = sorted(coco["images"], key=lambda image: int(image["id"]))
    wrong = np.bincount(pairs.images[pairs.found(thresholds) & (pairs.kinds != RIGHT)], minlength=len(images))
    wrong += np.bincount(pairs.objects.images[pairs.missed(thresholds)], minlength=len(images))
    first = [shown.image for gallery in galleries.values() for shown in gallery]
    order = dict.fromkeys([*first, *np.argsort(-wrong, kind="stable").tolist()])
    size = next(side for most, side in SIZES if len(images) <= most)
    pictures: dict[int, str] = {}
    for place in order:
        encoded = encoded_picture(root / images[place]["file_name"], size)
        budget -= len(encoded)
        if budget < 0:
            break
        pictures[place] = encoded
    return dict(sorted(pictures.items()))


def encoded_picture(path: Path, size: int) -> str:
    """A JPEG of at most `size` pixels, as base64."""
    with open_image(path) as opened:
        opened.draft("RGB", (size, size))
        small = opened.convert("RGB")
    small.thumbnail((size, size), Image.Resampling.BICUBIC)
    return encoded_jpeg(small)


def encoded_jpeg(picture: Image.Image) -> str:
    """Its bytes as base64."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=QUALITY)
    return base64.b64encode(buffer.getvalue()).decode()


def _boxes(boxes_xywh: NDArray[np.float64], images: NDArray[np.int64], pictured: set[int]) -> list[list[float] | None]:
    """To a tenth of a pixel; None without a picture."""
    rounded = boxes_xywh.round(1).tolist()
    return [box if image in pictured else None for box, image in zip(rounded, images.tolist(), strict=True)]
