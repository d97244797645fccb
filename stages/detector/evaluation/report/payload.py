"""The data of the page's scripts: detections and objects as columns, and the pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detector.core.images import load_rgb
from detector.engine.dataset import LabelNames
from detector.engine.ground_truth import ImageColumns
from detector.evaluation.error_types import CORRECT, ERROR_TYPES, MISSED, ErrorAnalysis
from detector.evaluation.galleries import ERROR_TITLES, GalleryPicture, rank_images

MAX_DETECTIONS = 200_000  # the page holds the highest-scoring ones
MAX_OBJECTS, MAX_IMAGES = 200_000, 50_000  # the page holds the first images with at most so many objects
MAX_GALLERY_IMAGES = 60  # per gallery
# (up to this number of images, longest side of a picture in pixels)
PICTURE_SIZES = ((60, 720), (150, 560), (10**9, 420))
JPEG_QUALITY = 78


def limit_images(analysis: ErrorAnalysis, images: int) -> int:
    """How many of the images, from the first one on, the page can hold; `images` if all."""
    per_image = np.bincount(analysis.objects.images, minlength=images)
    return min(MAX_IMAGES, int(np.searchsorted(np.cumsum(per_image), MAX_OBJECTS, side="right")))


def keep_first_images(analysis: ErrorAnalysis, count: int) -> ErrorAnalysis:
    """The detections and objects of the first `count` images."""
    detections, objects = analysis.images < count, analysis.objects.images < count
    places = np.append(np.cumsum(objects) - 1, -1)  # of the objects that stay, in the new order; -1 stays -1
    kept = {name: column[objects] for name, column in analysis.objects._asdict().items()}
    columns = {name: getattr(analysis, name)[detections] for name in analysis._fields[:-2]}
    columns["object_indices"] = places[columns["object_indices"]]
    return analysis._replace(objects=analysis.objects._replace(**kept), **columns)


def build_page_data(
    analysis: ErrorAnalysis,
    images: ImageColumns,
    names: LabelNames,
    thresholds: NDArray[np.float64],
    pictured: set[int],
) -> dict[str, Any]:
    """Columns for JSON, with at most MAX_DETECTIONS detections.

    thresholds float [C]: score threshold of each class. pictured: indices of the images whose boxes are included.
    """
    kept = slice(0, MAX_DETECTIONS)
    objects = analysis.objects
    ranks = rank_images(analysis, len(images.ids), thresholds)
    return {
        "classes": names.classes,
        "states": names.states,
        "thresholds": thresholds.tolist(),
        "errorTypes": list(ERROR_TYPES),
        "errorTitles": {error: ERROR_TITLES.get(error, error) for error in (*ERROR_TYPES, MISSED)},
        "images": [
            [file, width, height]
            for file, (height, width) in zip(images.files.tolist(), images.sizes.tolist(), strict=True)
        ],
        "galleries": {name: rows[:MAX_GALLERY_IMAGES].tolist() for name, rows in ranks.items()},
        "omitted": max(0, len(analysis.scores) - MAX_DETECTIONS),
        "scores": analysis.scores[kept].tolist(),
        "image": analysis.images[kept].tolist(),
        "category": analysis.categories[kept].tolist(),
        "state": analysis.states[kept].tolist(),
        "truePositive": analysis.hits[kept].astype(int).tolist(),
        "matchedObject": analysis.object_indices[kept].tolist(),
        "errorType": analysis.error_types[kept].tolist(),
        "boxes": _round_boxes(analysis.boxes_xywh(kept), analysis.images[kept], pictured),
        "objects": {
            "id": objects.ids.tolist(),
            "image": objects.images.tolist(),
            "category": objects.categories.tolist(),
            "state": objects.states.tolist(),
            "absent": objects.absent.astype(int).tolist(),
            "boxes": _round_boxes(objects.boxes_xywh, objects.images, pictured),
        },
    }


def encode_pictures(
    analysis: ErrorAnalysis,
    files: Sequence[str],
    galleries: dict[str, list[GalleryPicture]],
    thresholds: NDArray[np.float64],
    *,
    root: Path,
    budget: int,
) -> dict[int, str]:
    """Base64 JPEGs by image index, as many as fit into `budget` characters.

    The images of the galleries come first, then those with the most errors; of all only those in `files`.
    """
    wrong = analysis.select_detections(thresholds) & (analysis.error_types != CORRECT)
    errors = np.bincount(analysis.images[wrong], minlength=len(files))
    errors += np.bincount(analysis.objects.images[analysis.select_missed(thresholds)], minlength=len(files))
    in_galleries = [picture.image for gallery in galleries.values() for picture in gallery]
    in_galleries = [index for index in in_galleries if index < len(files)]
    order = dict.fromkeys([*in_galleries, *np.argsort(-errors, kind="stable").tolist()])
    size = next(side for most, side in PICTURE_SIZES if len(files) <= most)
    pictures: dict[int, str] = {}
    for index in order:
        encoded = encode_picture(root / files[index], size)
        budget -= len(encoded)
        if budget < 0:
            break
        pictures[index] = encoded
    return dict(sorted(pictures.items()))


def encode_picture(path: Path, size: int) -> str:
    """The image as a base64 JPEG whose longest side is at most `size` pixels."""
    small = load_rgb(path, at_least=(size, size))
    small.thumbnail((size, size), Image.Resampling.BICUBIC)
    return encode_jpeg(small)


def encode_jpeg(picture: Image.Image) -> str:
    """The picture as a base64 JPEG."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return base64.b64encode(buffer.getvalue()).decode()


def _round_boxes(
    boxes_xywh: NDArray[np.float64], images: NDArray[np.integer[Any]], pictured: set[int]
) -> list[list[float] | None]:
    """Boxes to a tenth of a pixel; None where the page has no picture of the image."""
    rounded = boxes_xywh.round(1).tolist()
    return [box if image in pictured else None for box, image in zip(rounded, images.tolist(), strict=True)]
