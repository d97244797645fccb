"""One palette for every drawing."""

from __future__ import annotations

from detector.plotting.palette import PALETTE, palette_color


def test_palette_repeats() -> None:
    colors = [palette_color(index) for index in range(2 * len(PALETTE))]
    assert colors == [*PALETTE, *PALETTE]
    assert len(set(colors)) == len(PALETTE)
