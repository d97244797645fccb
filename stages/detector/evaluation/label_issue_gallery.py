"""Draws one picture of the worst label issues: the label and the detection that contradicts it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from detector.core.boxes import xywh_to_xyxy
from detector.core.images import load_rgb
from detector.engine.ground_truth import GroundTruth
from detector.evaluation.label_issues import LabelIssue
from detector.plotting.box_drawing import StyledBox, draw_boxes, draw_outline
from detector.plotting.contact_sheet import GAP, arrange_pictures
from detector.plotting.fonts import load_font
from detector.plotting.names import shorten_name
from detector.plotting.palette import GROUND_TRUTH_COLOR, PREDICTION_COLOR
from detector.plotting.picture_file import write_picture

COLUMNS = 4
CROP_CONTEXT = 0.6  # margin on each side of the boxes, as a fraction of their longer side
MIN_CONTEXT = 16  # smallest margin in pixels
CROP_SIZE = 400  # longest side of a drawn crop in pixels
MAX_LINES = 4  # of a caption
MAX_NAME_LENGTH = 64  # characters of a file name
OTHER_LABELS_COLOR = "#cccccc"
LEGEND_SIZE, LEGEND_HEIGHT = 14, 40  # pixels
LEGEND = (  # text, color, dashed
    ("label", GROUND_TRUTH_COLOR, True),
    ("detection", PREDICTION_COLOR, False),
    ("other labels", OTHER_LABELS_COLOR, True),
)


def draw_label_issues(issues: Sequence[LabelIssue], truths: Iterable[GroundTruth], root: Path, path: Path) -> None:
    """Write crops of the images around `issues`, numbered in the order given, with the reason above.

    truths: of the images, whose file names are relative to `root`. The label is dashed, the detection solid; other
    labels nearby are thin and dashed.
    """
    labels = _group_labels_by_file(truths, {issue.file for issue in issues})
    crops = [_draw_crop(issue, labels.get(issue.file, []), root) for issue in issues]
    captions = [
        f"{number}. {issue.kind.replace('_', ' ')} ({issue.score:.2f}, {issue.split}): {issue.reason} "
        f"[{shorten_name(Path(issue.file).name, MAX_NAME_LENGTH)}]"
        for number, issue in enumerate(issues, 1)
    ]
    sheet = arrange_pictures(crops, captions, columns=COLUMNS, cell_width=CROP_SIZE, max_lines=MAX_LINES)
    write_picture(path, add_legend(sheet, bool(issues)), "JPEG", quality=80)


def add_legend(sheet: Image.Image, issues: bool) -> Image.Image:
    """The sheet with what the colors mean below it; without issues, with a line that says so."""
    result = Image.new("RGB", (sheet.width, sheet.height + LEGEND_HEIGHT), "white")
    result.paste(sheet)
    canvas, font = ImageDraw.Draw(result), load_font(LEGEND_SIZE)
    if not issues:
        canvas.text((GAP, sheet.height), "no label issues", fill="black", font=font)
        return result
    left, middle = float(GAP), sheet.height + LEGEND_HEIGHT / 2
    for text, color, dashed in LEGEND:
        draw_outline(canvas, (left, middle - 8, left + 24, middle + 8), color, 3, dashed)
        canvas.text((left + 32, middle), text, fill="black", font=font, anchor="lm")
        left += 32 + font.getlength(text) + 4 * GAP
    return result


def _group_labels_by_file(truths: Iterable[GroundTruth], files: set[str]) -> dict[str, list[tuple[float, ...]]]:
    """The boxes [left, top, width, height] of the objects in these files: an ignored region is none."""
    labels: dict[str, list[tuple[float, ...]]] = {}
    for truth in truths:
        part = truth.select_images(np.isin(truth.images.files, list(files)))
        objects = part.objects.select(~part.objects.crowds)
        for image, bbox in zip(objects.images, objects.boxes_xywh.tolist(), strict=True):
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
