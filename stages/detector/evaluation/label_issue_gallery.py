"""Draws one picture of the worst label issues: the label and the detection that contradicts it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.lines import Line2D
from PIL import Image

from detector.core.boxes import xywh_to_xyxy
from detector.core.images import load_rgb
from detector.engine.ground_truth import GroundTruth
from detector.evaluation.label_issues import LabelIssue
from detector.plotting.box_drawing import StyledBox, draw_boxes
from detector.plotting.names import shorten_name
from detector.plotting.palette import GROUND_TRUTH_COLOR, PREDICTION_COLOR
from detector.plotting.style import save_figure

COLUMNS = 4
CROP_CONTEXT = 0.6  # margin on each side of the boxes, as a fraction of their longer side
MIN_CONTEXT = 16  # smallest margin in pixels
CROP_SIZE = 400  # longest side of a drawn crop in pixels
OTHER_LABELS_COLOR = "#cccccc"


def draw_label_issues(issues: Sequence[LabelIssue], truths: Iterable[GroundTruth], root: Path, path: Path) -> None:
    """Write crops of the images around `issues`, numbered in the order given, with the reason as title.

    truths: of the images, whose file names are relative to `root`. The label is dashed, the detection solid; other
    labels nearby are thin and dashed.
    """
    labels = _group_labels_by_file(truths, {issue.file for issue in issues})
    rows = max(1, -(-len(issues) // COLUMNS))
    figure, grid = plt.subplots(rows, COLUMNS, figsize=(3.3 * COLUMNS, 3.9 * rows + 0.4), squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for number, (axes, issue) in enumerate(zip(grid.flat, issues, strict=False), 1):
        axes.imshow(np.asarray(_draw_crop(issue, labels.get(issue.file, []), root)))
        title = f"{number}. {issue.kind.replace('_', ' ')} ({issue.score:.2f}, {issue.split}): {issue.reason}"
        axes.set_title("\n".join(textwrap.wrap(shorten_name(title, 46 * 4), 46)), fontsize=8, fontweight="normal")
        axes.text(0, -0.02, shorten_name(Path(issue.file).name, 64), fontsize=6.5, va="top", transform=axes.transAxes)
    if not issues:
        grid[0, 0].set_title("no label issues")
    handles = [
        Line2D([], [], color=GROUND_TRUTH_COLOR, ls="--", lw=1.8, label="label"),
        Line2D([], [], color=PREDICTION_COLOR, lw=1.8, label="detection"),
        Line2D([], [], color=OTHER_LABELS_COLOR, ls="--", lw=0.9, label="other labels"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
    save_figure(figure, path)


def _group_labels_by_file(truths: Iterable[GroundTruth], files: set[str]) -> dict[str, list[tuple[float, ...]]]:
    """The boxes [left, top, width, height] of these files."""
    labels: dict[str, list[tuple[float, ...]]] = {}
    for truth in truths:
        part = truth.select_images(np.isin(truth.images.files, list(files)))
        for image, bbox in zip(part.objects.images, part.objects.boxes_xywh.tolist(), strict=True):
            labels.setdefault(str(part.images.files[image]), []).append(tuple(bbox))
    return labels


def _draw_crop(issue: LabelIssue, labels: Sequence[tuple[float, ...]], root: Path) -> Image.Image:
    pixels = load_rgb(root / issue.file)
    left, top, right, bottom = _compute_crop(issue, pixels.size)
    crop = pixels.crop((left, top, right, bottom))
    scale = CROP_SIZE / max(crop.size)
    crop = crop.resize((max(1, round(crop.width * scale)), max(1, round(crop.height * scale))))

    def style_box(bbox: Sequence[float], color: str, width: int, dashed: bool) -> StyledBox:
        corners = xywh_to_xyxy(np.array(bbox)) - (left, top, left, top)
        return StyledBox((corners * scale).tolist(), color, width=width, dashed=dashed)

    boxes = [] if issue.detected is None else [style_box(issue.detected, PREDICTION_COLOR, 3, dashed=False)]
    if issue.annotation:
        boxes.append(style_box(issue.bbox, GROUND_TRUTH_COLOR, 3, dashed=True))
    boxes += [style_box(bbox, OTHER_LABELS_COLOR, 1, dashed=True) for bbox in labels if bbox != issue.bbox]
    draw_boxes(crop, boxes, font_size=12)
    return crop


def _compute_crop(issue: LabelIssue, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """The part of an image of `size` (width, height) to show: left, top, right, bottom in pixels."""
    boxes_xyxy = xywh_to_xyxy(np.array([issue.bbox, issue.detected or issue.bbox]))
    low, high = boxes_xyxy[:, :2].min(axis=0), boxes_xyxy[:, 2:].max(axis=0)
    margin = max(MIN_CONTEXT, CROP_CONTEXT * float((high - low).max()))
    left, top = np.floor(np.clip(low - margin, 0, None)).astype(int).tolist()
    right, bottom = np.ceil(np.minimum(high + margin, size)).astype(int).tolist()
    return left, top, right, bottom
