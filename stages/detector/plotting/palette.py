"""The colors of every plot and drawing."""

from __future__ import annotations

# Okabe and Ito's colors, which color-blind readers can distinguish.
PALETTE = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#000000")
GROUND_TRUTH_COLOR, PREDICTION_COLOR, ABSENT_COLOR = PALETTE[2], PALETTE[3], "#888888"


def palette_color(index: int) -> str:
    """The color for an index from 0; the palette repeats."""
    return PALETTE[index % len(PALETTE)]
