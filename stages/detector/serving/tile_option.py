"""The tiles that a request, or the command line, asks for."""

from __future__ import annotations

from detector.core.errors import UserError
from detector.runners.model_metadata import ModelMetadata
from detector.runners.tiling import AUTO, MIN_TILE_SIDE, OVERLAP, Tiling, choose_tiling

WHOLE = "0"


def parse_tile(text: str, metadata: ModelMetadata) -> Tiling | None:
    """A side in pixels, AUTO, or WHOLE for whole images (None).

    Raises UserError for anything else, and for AUTO with a model file that does not say how large its training images
    were.
    """
    if text == WHOLE:
        return None
    if text == AUTO:
        return choose_tiling(metadata.object_size)
    if not (text.isascii() and text.isdecimal() and len(text) < 8 and int(text) >= MIN_TILE_SIDE):
        raise UserError(
            f"tile {text[:80]}: expected a side of at least {MIN_TILE_SIDE} pixels, {AUTO}, or {WHOLE} for whole images"
        )
    return Tiling(int(text), OVERLAP)
