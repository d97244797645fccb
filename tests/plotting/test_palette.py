"""One palette for every drawing."""

from __future__ import annotations

import re
from pathlib import Path

from detector.plotting.palette import PALETTE, palette_color

PAGE = Path(__file__).parents[2] / "stages/detector/serving/page/page.js"


def test_palette_repeats() -> None:
    colors = [palette_color(index) for index in range(2 * len(PALETTE))]
    assert colors == [*PALETTE, *PALETTE]
    assert len(set(colors)) == len(PALETTE)


def test_the_services_page_has_the_same_palette() -> None:
    (listed,) = re.findall(r"const PALETTE = \[(.*)\];", PAGE.read_text(encoding="utf-8"))
    assert tuple(re.findall(r'"(#\w+)"', listed)) == PALETTE
