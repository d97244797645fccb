"""Pictures with captions on one sheet; imports Pillow only."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from detector.plotting.fonts import load_font, shorten_to_width

GAP = 8  # pixels around each picture
CAPTION_SIZE = 12  # pixels
LINE_HEIGHT = CAPTION_SIZE + 4  # pixels


def arrange_pictures(
    pictures: Sequence[Image.Image], captions: Sequence[str], *, columns: int, cell_width: int, max_lines: int = 1
) -> Image.Image:
    """The pictures in rows on a white sheet, each below its caption.

    pictures: at most `cell_width` pixels wide. captions: one for each, wrapped between words to `cell_width` and cut
    after `max_lines` lines.
    """
    lines = [wrap_text(caption, cell_width, max_lines) for caption in captions]
    above = max((len(each) for each in lines), default=0) * LINE_HEIGHT
    height = max((picture.height for picture in pictures), default=0) + above + 2 * GAP
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * (cell_width + GAP) + GAP, rows * height + GAP), "white")
    canvas, font = ImageDraw.Draw(sheet), load_font(CAPTION_SIZE)
    for number, (picture, caption) in enumerate(zip(pictures, lines, strict=True)):
        left, top = number % columns * (cell_width + GAP) + GAP, number // columns * height + GAP
        for line, text in enumerate(caption):
            canvas.text((left, top + line * LINE_HEIGHT), text, fill="black", font=font)
        sheet.paste(picture, (left, top + above))
    return sheet


def wrap_text(text: str, width: int, max_lines: int) -> list[str]:
    """The lines of a caption, each at most `width` pixels wide; one that is cut ends with "…"."""
    font = load_font(CAPTION_SIZE)
    lines: list[str] = []
    words = text.split()
    while words and len(lines) < max_lines:
        line = words.pop(0)
        while words and font.getlength(f"{line} {words[0]}") <= width:
            line += f" {words.pop(0)}"
        lines.append(line)
    if words:
        lines[-1] += f" {words[0]}…"
    return [shorten_to_width(line, width, CAPTION_SIZE) for line in lines]
