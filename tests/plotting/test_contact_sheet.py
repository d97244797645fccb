"""Pictures with captions on one sheet."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from detector.plotting.contact_sheet import CAPTION_SIZE, GAP, LINE_HEIGHT, arrange_pictures, wrap_text
from detector.plotting.fonts import load_font

WIDTH = 120


def make_picture(color: str, height: int = 50) -> Image.Image:
    return Image.new("RGB", (WIDTH, height), color)


def test_pictures_stand_in_rows_below_their_captions() -> None:
    pictures = [make_picture("#ff0000"), make_picture("#00ff00", 80), make_picture("#0000ff")]
    sheet = arrange_pictures(pictures, ["one", "two", "three"], columns=2, cell_width=WIDTH)
    cell = 80 + LINE_HEIGHT + 2 * GAP
    assert sheet.size == (2 * (WIDTH + GAP) + GAP, 2 * cell + GAP)
    top = GAP + LINE_HEIGHT
    assert sheet.getpixel((GAP, top)) == (255, 0, 0)
    assert sheet.getpixel((WIDTH + 2 * GAP, top)) == (0, 255, 0)
    assert sheet.getpixel((GAP, top + cell)) == (0, 0, 255)
    assert sheet.getpixel((WIDTH + 2 * GAP, top + cell)) == (255, 255, 255), "the last row is not full"
    caption = np.asarray(sheet.crop((GAP, GAP, GAP + WIDTH, top)))
    assert caption.min() < 128, "text is black"


def test_a_sheet_without_pictures_is_empty() -> None:
    assert arrange_pictures([], [], columns=3, cell_width=WIDTH).size == (3 * (WIDTH + GAP) + GAP, GAP)


def test_each_picture_needs_a_caption() -> None:
    with pytest.raises(ValueError, match="zip"):
        arrange_pictures([make_picture("red")], [], columns=1, cell_width=WIDTH)


def test_captions_wrap_between_words_and_are_cut() -> None:
    text = "the label and the detection do not agree here at all"
    whole = wrap_text(text, WIDTH, 9)
    assert " ".join(whole) == text
    assert len(whole) > 2
    cut = wrap_text(text, WIDTH, 2)
    assert cut[0] == whole[0]
    assert len(cut) == 2
    assert cut[1].endswith("…")


@given(st.text(max_size=80), st.integers(1, 4))
def test_no_line_is_wider_than_the_picture(text: str, max_lines: int) -> None:
    lines = wrap_text(text, WIDTH, max_lines)
    assert len(lines) <= max_lines
    assert all(load_font(CAPTION_SIZE).getlength(line) <= WIDTH for line in lines)
