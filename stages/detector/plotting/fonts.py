"""The font of all pictures and charts; imports Pillow only."""

from __future__ import annotations

import functools
from importlib.util import find_spec
from pathlib import Path

from PIL import ImageFont

SYSTEM_FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial.ttf", "arial.ttf")


def find_dejavu() -> Path | None:
    """The file of DejaVu Sans, which covers most alphabets and ships with matplotlib; None without matplotlib."""
    matplotlib = find_spec("matplotlib")
    if matplotlib is None or matplotlib.origin is None:
        return None
    return Path(matplotlib.origin).parent / "mpl-data/fonts/ttf/DejaVuSans.ttf"


@functools.cache
def load_font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """DejaVu Sans; else a system font; else Pillow's, which covers only Latin letters. size: pixels."""
    for font in (find_dejavu() or "", *SYSTEM_FONTS):
        try:
            return ImageFont.truetype(font, size)
        except OSError:
            continue
    return ImageFont.load_default(size)


def shorten_to_width(text: str, width: float, size: int) -> str:
    """The text if it fits into `width` pixels at a font size, else its beginning and "…"."""
    font = load_font(size)
    while font.getlength(text) > width and len(text) > 1:
        text = text.rstrip("…")[:-1] + "…"
    return text


def format_count(count: int, width: float, size: int) -> str:
    """A count in full if it fits into `width` pixels at a font size, else rounded, such as 123k or 1.2M."""
    text = f"{count:,}"
    if load_font(size).getlength(text) <= width:
        return text
    value, unit = count / 1000, "k"
    for larger in ("M", "G", "T"):
        if value >= 999.5:
            value, unit = value / 1000, larger
    return f"{value:.1f}{unit}" if value < 9.95 else f"{value:.0f}{unit}"
