"""Boxes and their names drawn onto pictures, with Pillow alone."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageDraw, ImageFont

# Okabe and Ito's colours, which colour-blind readers tell apart too.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")
SYSTEM_FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial.ttf", "arial.ttf")
DASH = 14  # pixels of a dash and the gap behind it

Corners = Sequence[float]  # left, top, right, bottom in pixels of the picture


def colour(index: int) -> str:
    """The palette's colour for any index."""
    return PALETTE[index % len(PALETTE)]


def edged_rectangle(canvas: ImageDraw.ImageDraw, corners: Corners, colour: str, width: int, dashed: bool) -> None:
    """A rectangle of `width` pixels with a black edge, so that it is seen on any ground."""
    rectangle(canvas, corners, "black", width + 2, dashed)
    rectangle(canvas, corners, colour, width, dashed)


def rectangle(canvas: ImageDraw.ImageDraw, corners: Corners, colour: str, width: int, dashed: bool) -> None:
    """The outline of a box."""
    left, top, right, bottom = corners
    sides = [(left, top, right, top), (right, top, right, bottom), (right, bottom, left, bottom), (left, bottom, left,
             top)]  # fmt: skip
    for x1, y1, x2, y2 in sides:
        length = abs(x2 - x1) + abs(y2 - y1)
        dashes = max(1, round(length / DASH)) if dashed else 0
        parts = [(n / dashes, (n + 0.6) / dashes) for n in range(dashes)] if dashed else [(0.0, 1.0)]
        for start, end in parts:
            canvas.line((x1 + (x2 - x1) * start, y1 + (y2 - y1) * start, x1 + (x2 - x1) * end, y1 + (y2 - y1) * end),
                        fill=colour, width=width)  # fmt: skip


def plate(canvas: ImageDraw.ImageDraw, corners: Corners, text: str, ground: str, ink: str, size: int) -> None:
    """A filled box with text of `size` pixels in it, as large as `plate_size` says."""
    left, top, _, bottom = corners
    canvas.rectangle(tuple(corners), fill=ground)
    canvas.text((left + 3, (top + bottom) / 2), text, fill=ink, font=font(size), anchor="lm")


def plate_size(text: str, size: int) -> tuple[float, int]:
    """(width, height) in pixels of a plate with that text."""
    return font(size).getlength(text) + 6, size + 5


@functools.cache
def font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """DejaVu Sans, which has most alphabets and comes with matplotlib; else one that is installed; else Pillow's.

    The last one has only the letters of English.
    """
    matplotlib = find_spec("matplotlib")
    places = [str(Path(matplotlib.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf")] if (
        matplotlib is not None and matplotlib.origin is not None
    ) else []  # fmt: skip
    for place in (*places, *SYSTEM_FONTS):
        try:
            return ImageFont.truetype(place, size)
        except OSError:
            continue
    return ImageFont.load_default(size)
