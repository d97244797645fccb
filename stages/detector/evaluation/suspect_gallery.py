"""A sheet of the worst suspects: what is labelled, and what the detector sees."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from detector.core.boxes import xywh_to_xyxy
from detector.core.images import open_image
from detector.evaluation.gallery_pictures import FOUND, TRUTH
from detector.evaluation.label_issues import Suspect
from detector.plotting.style import save_figure

COLUMNS = 4
CONTEXT = 0.6  # shown on each side of the boxes, as a share of their longer side
LEAST_CONTEXT = 16  # pixels
LARGEST_CROP = 400  # pixels that are kept of the longer side of a crop
OTHERS = "0.3"  # grey of the labels nearby


def draw_suspects(suspects: Sequence[Suspect], truths: Iterable[dict[str, Any]], root: Path, path: Path) -> None:
    """Crops of the images around `suspects`, numbered in the order given, with the reason as title.

    truths: COCO dictionaries with the labels of their images, which lie below `root`. Truth is dashed, what was
    found is solid; other labels nearby are dotted.
    """
    labels = _labels_by_file(truths)
    rows = max(1, -(-len(suspects) // COLUMNS))
    figure, grid = plt.subplots(rows, COLUMNS, figsize=(3.3 * COLUMNS, 3.9 * rows + 0.4), squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for number, (axes, suspect) in enumerate(zip(grid.flat, suspects, strict=False), 1):
        _draw(axes, suspect, labels.get(suspect.file, []), root)
        title = f"{number}. {suspect.kind.replace('_', ' ')} ({suspect.score:.2f}, {suspect.split}): {suspect.reason}"
        axes.set_title("\n".join(textwrap.wrap(title, 46)), fontsize=8, fontweight="normal")
        axes.text(0, -0.02, Path(suspect.file).name, fontsize=6.5, va="top", transform=axes.transAxes)
    if not suspects:
        grid[0, 0].set_title("no label looks wrong")
    handles = [
        Line2D([], [], color=TRUTH, ls="--", lw=1.8, label="the label"),
        Line2D([], [], color=FOUND, lw=1.8, label="what is found"),
        Line2D([], [], color=OTHERS, ls=":", lw=1.2, label="other labels"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    save_figure(figure, path)


def _labels_by_file(truths: Iterable[dict[str, Any]]) -> dict[str, list[tuple[float, ...]]]:
    labels: dict[str, list[tuple[float, ...]]] = {}
    for truth in truths:
        files = {image["id"]: image["file_name"] for image in truth["images"]}
        for annotation in truth["annotations"]:
            labels.setdefault(files[annotation["image_id"]], []).append(tuple(annotation["bbox"]))
    return labels


def _draw(axes: Axes, suspect: Suspect, labels: Sequence[tuple[float, ...]], root: Path) -> None:
    with open_image(root / suspect.file) as opened:
        window = _window(suspect, opened.size)
        crop = opened.convert("RGB").crop(window)
    crop.thumbnail((LARGEST_CROP, LARGEST_CROP))
    left, top, right, bottom = window
    axes.imshow(np.asarray(crop), extent=(left, right, bottom, top))
    for bbox in labels:
        if bbox != suspect.bbox:
            _box(axes, bbox, OTHERS, ":", 1.2)
    if suspect.annotation:
        _box(axes, suspect.bbox, TRUTH, "--", 1.8)
    if suspect.found is not None:
        _box(axes, suspect.found, FOUND, "-", 1.8)
    axes.set(xlim=(left, right), ylim=(bottom, top))


def _window(suspect: Suspect, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The part of an image of `size` (width, height) to show: left, top, right, bottom in pixels."""
    boxes_xyxy = xywh_to_xyxy(np.array([suspect.bbox, suspect.found or suspect.bbox]))
    low, high = boxes_xyxy[:, :2].min(axis=0), boxes_xyxy[:, 2:].max(axis=0)
    margin = max(LEAST_CONTEXT, CONTEXT * float((high - low).max()))
    left, top = np.floor(np.clip(low - margin, 0, None)).astype(int).tolist()
    right, bottom = np.ceil(np.minimum(high + margin, size)).astype(int).tolist()
    return left, top, right, bottom


def _box(axes: Axes, bbox: Sequence[float], colour: str, style: str, width: float) -> None:
    axes.add_patch(Rectangle((bbox[0], bbox[1]), bbox[2], bbox[3], fill=False, lw=width, ec=colour, ls=style))
