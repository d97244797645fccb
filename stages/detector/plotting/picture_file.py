"""Writing a picture to a file; imports Pillow only."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from PIL import Image

from detector.core.output_files import write_bytes


def write_picture(path: Path, picture: Image.Image, kind: str, **options: Any) -> None:
    """Write a picture completely or not at all. kind: Pillow's name of the format; options: of its encoder.

    It is encoded in memory first, since Pillow does not notice that a disk becomes full.
    """
    encoded = io.BytesIO()
    picture.save(encoded, kind, **options)
    write_bytes(path, encoded.getvalue())
