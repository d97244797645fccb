"""Draws the galleries: ground truth dashed, predictions solid, in colors that color-blind readers can distinguish."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from detector.core.boxes import xywh_to_xyxy
from detector.core.images import load_rgb
from detector.engine.ground_truth import ImageColumns
from detector.evaluation.error_types import CORRECT, ERROR_TYPES, MISSED, ErrorAnalysis
from detector.evaluation.galleries import ERROR_TITLES, GalleryPicture
from detector.plotting.box_drawing import StyledBox, draw_boxes
from detector.plotting.fonts import load_font, shorten_to_width
from detector.plotting.palette import ABSENT_COLOR, GROUND_TRUTH_COLOR, PREDICTION_COLOR
from detector.plotting.picture_file import write_picture

PANEL_SIZE = 720  # longest side of a panel in pixels, for any image size: lines and text keep their size
MAX_LABELS = 12  # in an image with more boxes, only errors are labeled
FONT_SIZE, CAPTION_SIZE, GAP = 15, 18, 8  # pixels
THICK, THIN = 6, 3  # line widths in pixels: errors and other boxes
CLOSE_UP_CONTEXT = 1.5  # margin that a close-up adds to a box, as a multiple of its longer side


class DisplayNames(NamedTuple):
    """Names of the classes by index, and of the states by id - 1."""

    classes: Sequence[str]
    states: Sequence[str]


class CropWindow(NamedTuple):
    """Part of an image in image pixels; scale: drawing pixels per image pixel."""

    left: float
    top: float
    right: float
    bottom: float
    scale: float


def draw_galleries(
    galleries: dict[str, list[GalleryPicture]],
    analysis: ErrorAnalysis,
    *,
    images: ImageColumns,
    names: DisplayNames,
    thresholds: NDArray[np.float64],
    root: Path,
    folder: Path,
) -> Iterator[Path]:
    """Write each picture to folder/{gallery}_{number}.jpg and yield its path.

    images: whose file names are relative to `root`. thresholds float [C]: score threshold of each class.

    Each picture has two panels. Whole image: ground truth and predictions. Single error: the image with both, and a
    close-up.
    """
    detected, missed = analysis.select_detections(thresholds), analysis.select_missed(thresholds)
    for gallery, pictures in galleries.items():
        for number, picture in enumerate(pictures, 1):
            file, (height, width) = str(images.files[picture.image]), images.sizes[picture.image].tolist()
            truth = _style_ground_truth(analysis, picture, missed, names)
            predictions = _style_predictions(analysis, picture, detected, names)
            pixels = load_rgb(root / file, expected_size=(width, height))
            whole = fit_window((0, 0, width, height))
            if picture.shows_whole_image:
                panels = [render_window(pixels, whole, truth), render_window(pixels, whole, predictions)]
            else:
                boxes = predictions + truth
                close_up = build_close_up_window(analysis, picture, (width, height))
                panels = [render_window(pixels, whole, boxes, frame=close_up), render_window(pixels, close_up, boxes)]
            path = folder / f"{gallery}_{number:02}.jpg"
            caption = f"{describe_picture(analysis, picture, names)} · {file}"
            write_picture(path, join_panels(panels, caption), "JPEG", quality=80)
            yield path


def describe_picture(analysis: ErrorAnalysis, picture: GalleryPicture, names: DisplayNames) -> str:
    """The caption: the error type, the prediction and the ground truth; for a whole image, the legend."""
    objects = analysis.objects
    if picture.detection >= 0:
        detection = picture.detection
        error_type = ERROR_TYPES[analysis.error_types[detection]]
        label = _format_label(names, analysis.categories[detection], analysis.states[detection])
        caption = f"{ERROR_TITLES[error_type]}: {label} {analysis.scores[detection]:.2f}"
        index = analysis.object_indices[detection]
        if index >= 0 and error_type != ERROR_TYPES[CORRECT]:
            caption += f" (ground truth: {_format_label(names, objects.categories[index], objects.states[index])})"
        return caption
    if picture.object >= 0:
        label = _format_label(names, objects.categories[picture.object], objects.states[picture.object])
        return f"{ERROR_TITLES[MISSED]}: {label}"
    return "left: ground truth (dashed), right: predictions (solid), thick: missed or wrong"


def fit_window(box: tuple[float, float, float, float]) -> CropWindow:
    """The window that shows a box [left, top, right, bottom], its longer side PANEL_SIZE drawing pixels."""
    return CropWindow(*box, PANEL_SIZE / max(1.0, box[2] - box[0], box[3] - box[1]))


def build_close_up_window(analysis: ErrorAnalysis, picture: GalleryPicture, size: tuple[int, int]) -> CropWindow:
    """A square around the picture's detection or object, clipped to the image of `size` (width, height)."""
    detected = picture.detection >= 0
    bbox = analysis.boxes_xywh([picture.detection])[0] if detected else analysis.objects.boxes_xywh[picture.object]
    left, top, width, height = bbox.tolist()
    side = (1 + CLOSE_UP_CONTEXT) * max(width, height, 8)
    x, y = left + width / 2 - side / 2, top + height / 2 - side / 2
    return fit_window((max(0, x), max(0, y), min(size[0], x + side), min(size[1], y + side)))


def render_window(
    pixels: Image.Image, window: CropWindow, boxes: Sequence[StyledBox], frame: CropWindow | None = None
) -> Image.Image:
    """The part of an image that `window` shows, with boxes in image pixels, thick ones on top.

    frame: outline of the close-up.
    """
    width, height = (window.right - window.left) * window.scale, (window.bottom - window.top) * window.scale
    size = (max(1, round(width)), max(1, round(height)))
    panel = pixels.resize(size, Image.Resampling.BICUBIC, box=window[:4])
    top_first = sorted(boxes, key=lambda box: -box.width)
    if frame is not None:
        top_first.insert(0, StyledBox(frame[:4], "#ffffff", width=2))
    draw_boxes(panel, [box._replace(xyxy=_to_canvas(window, box.xyxy)) for box in top_first], FONT_SIZE)
    return panel


def join_panels(panels: Sequence[Image.Image], text: str) -> Image.Image:
    """The panels side by side, with a caption below: one line, shortened to fit."""
    font, text = load_font(CAPTION_SIZE), " ".join(text.split())
    width = sum(panel.width for panel in panels) + GAP * (len(panels) - 1)
    text = shorten_to_width(text, width - 2 * GAP, CAPTION_SIZE)
    height = max(panel.height for panel in panels)
    sheet = Image.new("RGB", (width, height + 2 * CAPTION_SIZE), "white")
    left = 0
    for panel in panels:
        sheet.paste(panel, (left, (height - panel.height) // 2))
        left += panel.width + GAP
    ImageDraw.Draw(sheet).text((GAP, height + CAPTION_SIZE), text, fill="black", font=font, anchor="lm")
    return sheet


def _style_ground_truth(
    analysis: ErrorAnalysis, picture: GalleryPicture, missed: NDArray[np.bool_], names: DisplayNames
) -> list[StyledBox]:
    """The objects of the image; in a picture of a single error, only that object is labeled."""
    objects, whole = analysis.objects, picture.shows_whole_image
    indices = np.flatnonzero(objects.images == picture.image)
    boxes = []
    for index in indices.tolist():
        emphasized = bool(missed[index]) if whole else index == picture.object
        labeled = emphasized or (whole and len(indices) <= MAX_LABELS)
        label = _format_label(names, objects.categories[index], objects.states[index]) if labeled else ""
        color = ABSENT_COLOR if objects.absent[index] else GROUND_TRUTH_COLOR
        xyxy = xywh_to_xyxy(objects.boxes_xywh[index]).tolist()
        boxes.append(StyledBox(xyxy, color, label, width=THICK if emphasized else THIN, dashed=True))
    return boxes


def _style_predictions(
    analysis: ErrorAnalysis, picture: GalleryPicture, detected: NDArray[np.bool_], names: DisplayNames
) -> list[StyledBox]:
    """The detections in the image; in a picture of a single error, only that detection is labeled."""
    whole = picture.shows_whole_image
    indices = np.flatnonzero((analysis.images == picture.image) & detected)
    boxes = []
    for index, xyxy in zip(indices.tolist(), xywh_to_xyxy(analysis.boxes_xywh(indices)).tolist(), strict=True):
        emphasized = bool(analysis.error_types[index] != CORRECT) if whole else index == picture.detection
        labeled = emphasized or (whole and len(indices) <= MAX_LABELS)
        name = _format_label(names, analysis.categories[index], analysis.states[index])
        label = f"{name} {analysis.scores[index]:.2f}" if labeled else ""
        boxes.append(StyledBox(xyxy, PREDICTION_COLOR, label, width=THICK if emphasized else THIN))
    return boxes


def _format_label(names: DisplayNames, category: int, state: int) -> str:
    """The class and, if known, the state."""
    return names.classes[category] + (f", {names.states[state - 1]}" if names.states and state else "")


def _to_canvas(window: CropWindow, box: Sequence[float]) -> list[float]:
    """Image coordinates (left, top, right, bottom) as drawing coordinates."""
    origin = (window.left, window.top, window.left, window.top)
    return [(corner - start) * window.scale for corner, start in zip(box, origin, strict=True)]
