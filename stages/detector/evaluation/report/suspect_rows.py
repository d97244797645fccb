"""Suspected label errors as small pictures."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from detector.core.images import open_image
from detector.evaluation.gallery_pictures import FOUND, TRUTH, Drawn, Window, draw
from detector.evaluation.report.payload import encoded_jpeg

PICTURED = 24  # the worst so many
SIDE = 240  # pixels of a picture


def suspect_pictures(rows: list[dict[str, str]], root: Path) -> list[str]:
    """JPEGs as base64, one for each row: the box with as much again around it, a label dashed, a detection solid."""
    return [encoded_jpeg(_close_up(row, root / row["file"])) for row in rows]


def _close_up(row: dict[str, str], path: Path) -> Image.Image:
    left, top, width, height = (float(row[key] or 0) for key in ("left", "top", "width", "height"))
    with open_image(path) as opened:
        pixels = opened.convert("RGB")
    side = min(max(width, height, 8) * 2, *pixels.size)
    x = min(max(0.0, left + width / 2 - side / 2), pixels.width - side)
    y = min(max(0.0, top + height / 2 - side / 2), pixels.height - side)
    window = Window(x, y, x + side, y + side, SIDE / side)
    labelled = row["kind"] != "missing_box"
    return draw(pixels, window, [Drawn([left, top, width, height], "", TRUTH if labelled else FOUND, labelled, False)])
