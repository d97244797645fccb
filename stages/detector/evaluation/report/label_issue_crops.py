"""Thumbnails of the suspected label errors."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from detector.core.images import load_rgb
from detector.evaluation.gallery_pictures import CropWindow, render_window
from detector.evaluation.report.payload import encode_jpeg
from detector.plotting.box_drawing import StyledBox
from detector.plotting.palette import GROUND_TRUTH_COLOR, PREDICTION_COLOR

MAX_CROPS = 24  # number of issues with a thumbnail, worst first
CROP_SIZE = 240  # side of a thumbnail in pixels


def encode_issue_crops(rows: list[dict[str, str]], root: Path) -> list[str]:
    """One base64 JPEG per row: the box and its surroundings; a label is dashed, a detection solid.

    rows: those of the label issue table; their files are relative to `root`.
    """
    return [encode_jpeg(_draw_close_up(row, root / row["file"])) for row in rows]


def _draw_close_up(row: dict[str, str], path: Path) -> Image.Image:
    left, top, width, height = (float(row[key] or 0) for key in ("left", "top", "width", "height"))
    pixels = load_rgb(path)
    side = min(max(width, height, 8) * 2, *pixels.size)
    x = min(max(0.0, left + width / 2 - side / 2), pixels.width - side)
    y = min(max(0.0, top + height / 2 - side / 2), pixels.height - side)
    window = CropWindow(x, y, x + side, y + side, CROP_SIZE / side)
    is_label = row["kind"] != "missing_box"
    color = GROUND_TRUTH_COLOR if is_label else PREDICTION_COLOR
    box = StyledBox((left, top, left + width, top + height), color, dashed=is_label)
    return render_window(pixels, window, [box])
