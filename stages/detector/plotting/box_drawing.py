"""Boxes with labels drawn onto images; imports Pillow only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image, ImageDraw

from detector.plotting.fonts import load_font
from detector.plotting.names import shorten_name

DASH_PERIOD = 14  # pixels of a dash and the gap after it
# Labels of a picture: more hide what they name, and placing them takes quadratic time. A large picture has
# room for more, which cover a part of it in all.
MAX_LABELS, MAX_LABELS_OF_LARGE_PICTURE = 40, 400
MAX_COVERED_FRACTION = 0.15
MAX_LABEL_LENGTH = 40  # characters
MIN_LIGHT_LUMA = 100  # backgrounds from this luma (0 to 255) up get black text

XYXY = Sequence[float]  # left, top, right, bottom in pixels of the picture


class StyledBox(NamedTuple):
    """A box to draw. width: line width in pixels; label: "" for none; font_size: 0 for that of all boxes."""

    xyxy: XYXY
    color: str
    label: str = ""
    width: int = 3
    dashed: bool = False
    font_size: int = 0


def draw_boxes(picture: Image.Image, boxes: Sequence[StyledBox], font_size: int) -> None:
    """Draw boxes and their labels onto an RGB picture, in place; the first box lies on top.

    Boxes outside the picture are skipped. Of many boxes only the first ones have their label, and a note in the picture
    says so. font_size: pixels, of boxes without their own.
    """
    canvas = ImageDraw.Draw(picture)
    visible = [
        box._replace(label=shorten_name(box.label, MAX_LABEL_LENGTH))
        for box in boxes
        if _overlaps_picture(box.xyxy, picture.size)
    ]
    for box in reversed(visible):
        draw_outline(canvas, box.xyxy, "black", box.width + 2, box.dashed)  # the edge keeps it visible on any image
        draw_outline(canvas, box.xyxy, box.color, box.width, box.dashed)
    named = [box for box in visible if box.label]
    labeled = named[: _count_labels(named, picture.size, font_size)]
    places = place_labels(labeled, picture.size, font_size)
    for box, place in reversed(list(zip(labeled, places, strict=True))):
        _draw_label(canvas, place, box, box.font_size or font_size)
    if len(named) > len(labeled):
        note = StyledBox((0, 0, 0, 0), "#ffffff", f"{len(labeled)} of {len(named):,} labels")
        width, height = _measure_label(note.label, font_size)
        bottom = picture.size[1] - height
        _draw_label(canvas, _move_inside(0, bottom, width, height, picture.size), note, font_size)


def place_labels(boxes: Sequence[StyledBox], size: tuple[int, int], font_size: int) -> list[XYXY]:
    """The rectangle of each box's label: inside a picture of `size`, overlapping earlier labels the least.

    Labels start above their box; those of dashed boxes below.
    """
    placed: list[XYXY] = []
    for box in boxes:
        left, top, right, bottom = box.xyxy
        width, height = _measure_label(box.label, box.font_size or font_size)
        corners = [
            (left, top - height),
            (left, top),
            (left, bottom),
            (right - width, top - height),
            (right - width, bottom - height),
            (left, bottom - height),
            (right - width, bottom),
        ]
        if box.dashed:
            corners.insert(0, (left, bottom))
        candidates = [_move_inside(x, y, width, height, size) for x, y in corners]
        placed.append(_choose_place(candidates, placed))
    return placed


def _choose_place(candidates: list[XYXY], placed: list[XYXY]) -> XYXY:
    """The first one that overlaps earlier labels the least."""
    best, least = candidates[0], float("inf")
    for candidate in candidates:
        overlap = sum(_intersection_area(candidate, other) for other in placed)
        if overlap < least:
            best, least = candidate, overlap
        if overlap == 0:
            break
    return best


def choose_text_color(background: str) -> str:
    """Black or white, whichever is easier to read on a background #rrggbb."""
    red, green, blue = (int(background[start : start + 2], 16) for start in (1, 3, 5))
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue >= MIN_LIGHT_LUMA else "white"


def draw_outline(canvas: ImageDraw.ImageDraw, xyxy: XYXY, color: str, width: int, dashed: bool) -> None:
    """Draw a rectangle; width: of its line in pixels."""
    left, top, right, bottom = xyxy
    corners = [(left, top), (right, top), (right, bottom), (left, bottom)]
    for (x1, y1), (x2, y2) in zip(corners, [*corners[1:], corners[0]], strict=True):
        length = abs(x2 - x1) + abs(y2 - y1)
        dashes = max(1, round(length / DASH_PERIOD))
        parts = [(n / dashes, (n + 0.6) / dashes) for n in range(dashes)] if dashed else [(0.0, 1.0)]
        for start, end in parts:
            line = (x1 + (x2 - x1) * start, y1 + (y2 - y1) * start, x1 + (x2 - x1) * end, y1 + (y2 - y1) * end)
            canvas.line(line, fill=color, width=width)


def _draw_label(canvas: ImageDraw.ImageDraw, place: XYXY, box: StyledBox, font_size: int) -> None:
    left, top, _, bottom = place
    canvas.rectangle(place, fill=box.color)
    text_color = choose_text_color(box.color)
    canvas.text((left + 3, (top + bottom) / 2), box.label, fill=text_color, font=load_font(font_size), anchor="lm")


def _measure_label(text: str, font_size: int) -> tuple[float, int]:
    """(width, height) of a label in pixels."""
    return load_font(font_size).getlength(text) + 6, font_size + 5


def _count_labels(named: Sequence[StyledBox], size: tuple[int, int], font_size: int) -> int:
    """How many labels, the first ones, a picture has room for."""
    covered, room = 0.0, MAX_COVERED_FRACTION * size[0] * size[1]
    for count, box in enumerate(named[:MAX_LABELS_OF_LARGE_PICTURE]):
        width, height = _measure_label(box.label, box.font_size or font_size)
        covered += width * height
        if covered > room and count >= MAX_LABELS:
            return count
    return min(len(named), MAX_LABELS_OF_LARGE_PICTURE)


def _move_inside(left: float, top: float, width: float, height: float, size: tuple[int, int]) -> XYXY:
    x, y = min(max(0.0, left), max(0.0, size[0] - width)), min(max(0.0, top), max(0.0, size[1] - height))
    return x, y, x + width, y + height


def _overlaps_picture(xyxy: XYXY, size: tuple[int, int]) -> bool:
    left, top, right, bottom = xyxy
    return right >= 0 and bottom >= 0 and left <= size[0] and top <= size[1]


def _intersection_area(first: XYXY, second: XYXY) -> float:
    width = min(first[2], second[2]) - max(first[0], second[0])
    height = min(first[3], second[3]) - max(first[1], second[1])
    return max(0.0, width) * max(0.0, height)
