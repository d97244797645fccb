"""Boxes drawn onto images: outlines in place, labels legible and inside the picture."""

from __future__ import annotations

import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageColor, ImageFont

from detector.plotting import box_drawing, fonts
from detector.plotting.box_drawing import StyledBox, choose_text_color, draw_boxes, place_labels
from detector.plotting.fonts import load_font
from detector.plotting.palette import PALETTE

GRAY, BLUE, ORANGE = (128, 128, 128), ImageColor.getrgb(PALETTE[0]), ImageColor.getrgb(PALETTE[1])


def draw(*boxes: StyledBox, size: tuple[int, int] = (200, 160)) -> np.ndarray:
    """Pixels uint8 [H, W, 3]."""
    picture = Image.new("RGB", size, GRAY)
    draw_boxes(picture, boxes, font_size=14)
    return np.asarray(picture)


def count_color(pixels: np.ndarray, color: tuple[int, ...]) -> int:
    return int((pixels == color).all(axis=-1).sum())


def test_no_boxes_change_nothing() -> None:
    assert (draw() == GRAY).all()


@pytest.mark.parametrize("width", [1, 3, 6])
def test_outline_has_its_color_and_width_and_a_black_edge(width: int) -> None:
    column = draw(StyledBox((40, 30, 160, 120), PALETTE[0], width=width))[75, :80]
    assert count_color(column, BLUE) == width
    assert count_color(column, (0, 0, 0)) == 2
    assert (column[:30] == GRAY).all()


def test_dashed_outline_has_gaps() -> None:
    pixels = draw(StyledBox((40, 30, 160, 120), PALETTE[0], dashed=True))
    share = count_color(pixels[40:110, 40], BLUE) / 70
    assert 0.4 < share < 0.85


def test_first_box_lies_on_top() -> None:
    boxes = [StyledBox((40, 30, 160, 120), PALETTE[0]), StyledBox((40, 30, 160, 120), PALETTE[1])]
    assert draw(*boxes)[75, 40].tolist() == list(BLUE)
    assert draw(*boxes[::-1])[75, 40].tolist() == list(ORANGE)


def test_boxes_outside_the_picture_are_skipped() -> None:
    right, left = StyledBox((300, 20, 340, 60), PALETTE[0], "bolt"), StyledBox((-90, 0, -50, 9), PALETTE[1])
    assert (draw(right, left) == GRAY).all()


def test_labels_of_dashed_boxes_start_below() -> None:
    above, below = (draw(StyledBox((40, 60, 160, 90), PALETTE[0], "bolt", dashed=dashed)) for dashed in (False, True))
    assert count_color(above[44:56, 45:60], BLUE) > 20
    assert count_color(above[95:105, 45:60], BLUE) == 0
    assert count_color(below[44:56, 45:60], BLUE) == 0
    assert count_color(below[95:105, 45:60], BLUE) > 20


coordinates = st.tuples(st.integers(-50, 700), st.integers(-50, 500), st.integers(0, 300), st.integers(0, 300))


@given(st.lists(coordinates, max_size=12), st.booleans())
def test_every_label_is_inside_the_picture(boxes: list[tuple[int, int, int, int]], dashed: bool) -> None:
    styled = [StyledBox((x, y, x + w, y + h), PALETTE[0], "bolt 0.88", dashed=dashed) for x, y, w, h in boxes]
    for left, top, right, bottom in place_labels(styled, (640, 480), 14):
        assert 0 <= left < right <= 640
        assert 0 <= top < bottom <= 480


def test_labels_do_not_overlap() -> None:
    """Four objects in one place have four legible labels."""
    boxes = [StyledBox((200, 200, 400, 300), PALETTE[0], "bolt 0.88")] * 4
    for one, other in itertools.combinations(place_labels(boxes, (640, 480), 14), 2):
        apart = one[2] <= other[0] or other[2] <= one[0] or one[3] <= other[1] or other[3] <= one[1]
        assert apart, (one, other)


@pytest.mark.parametrize("background", PALETTE)
def test_text_stands_out(background: str) -> None:
    """A contrast of at least 4 to 1; WCAG 2.1 requires 3 for large text."""

    def luminance(color: str) -> float:
        parts = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    text = {"black": 0.0, "white": 1.0}[choose_text_color(background)]
    low, high = sorted((text, luminance(background)))
    assert (high + 0.05) / (low + 0.05) >= 4


def test_fonts_without_matplotlib(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system font, or Pillow's own."""
    assert Path(str(load_font(14).path)).name == "DejaVuSans.ttf"  # type: ignore[union-attr]
    monkeypatch.setattr(fonts, "find_spec", lambda name: None)
    monkeypatch.setattr(fonts, "SYSTEM_FONTS", ())
    load_font.cache_clear()
    try:
        assert isinstance(load_font(14), ImageFont.FreeTypeFont)
        assert count_color(draw(StyledBox((40, 60, 160, 90), PALETTE[0], "ü")), BLUE) > 100
    finally:
        load_font.cache_clear()


def test_imports_no_torch_or_matplotlib() -> None:
    code = (
        "import sys; from detector.plotting import box_drawing, palette; "
        "sys.exit(bool({'torch', 'matplotlib', 'pandas'} & sys.modules.keys()))"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_of_many_labels_only_the_first_are_drawn_and_a_note_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    monkeypatch.setattr(box_drawing, "_draw_label", lambda canvas, place, box, size: drawn.append(box.label))
    count = 3000  # placing all of them would take minutes
    draw(*(StyledBox((10, 10, 60, 60), PALETTE[0], f"label {number}") for number in range(count)))
    assert set(drawn[:-1]) == {f"label {number}" for number in range(box_drawing.MAX_LABELS)}
    assert drawn[-1] == f"{box_drawing.MAX_LABELS} of {count:,} labels"


def test_a_label_of_any_text_is_one_short_line() -> None:
    picture = Image.new("RGB", (100, 80))
    draw_boxes(picture, [StyledBox((10, 10, 60, 60), PALETTE[0], "two\nlines " * 5000)], font_size=14)
    assert np.asarray(picture).any()


def test_a_large_picture_has_room_for_more_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []
    monkeypatch.setattr(box_drawing, "_draw_label", lambda canvas, place, box, size: drawn.append(box.label))
    boxes = [
        StyledBox((x, y, x + 40, y + 40), PALETTE[0], "bolt") for y in range(0, 2000, 100) for x in range(0, 2000, 100)
    ]
    draw(*boxes[:100], size=(2000, 2000))
    assert drawn == ["bolt"] * 100
    drawn.clear()
    draw(*boxes, *boxes, size=(2000, 2000))
    assert drawn[-1] == f"{box_drawing.MAX_LABELS_OF_LARGE_PICTURE} of 800 labels"


def test_a_box_may_have_its_own_font_size() -> None:
    small, large = (draw(StyledBox((40, 60, 160, 120), PALETTE[0], "bolt", font_size=size)) for size in (8, 20))
    assert count_color(small[30:58], BLUE) < count_color(large[30:58], BLUE) / 2
