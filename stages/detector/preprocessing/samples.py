"""A picture of sample images with their boxes; imports Pillow only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from detector.core.images import load_rgb
from detector.manifest.manifest import CleanBox, CleanImage, Labels
from detector.plotting.box_drawing import StyledBox, draw_boxes
from detector.plotting.contact_sheet import arrange_pictures
from detector.plotting.palette import ABSENT_COLOR, palette_color
from detector.plotting.picture_file import write_picture

ROWS, COLUMNS = 3, 4
CELL_SIZE, FONT_SIZE = 320, 11  # pixels: the longer side of an image, and its labels


def draw_samples(images: Sequence[CleanImage], labels: Labels, root: Path, path: Path) -> None:
    """Write images that are evenly spaced over the dataset, with boxes in the color of their state.

    Ignored regions, which are no objects, are gray and dashed. root: folder that the images' paths are relative to.
    """
    count = min(ROWS * COLUMNS, len(images))
    picked = [images[index * len(images) // count] for index in range(count)]
    pictures = [draw_sample(image, labels.states, root) for image in picked]
    names = [Path(image.image).name for image in picked]
    sheet = arrange_pictures(pictures, names, columns=COLUMNS, cell_width=CELL_SIZE)
    write_picture(path, sheet, "JPEG", quality=80)


def draw_sample(image: CleanImage, states: Sequence[str], root: Path) -> Image.Image:
    """The image with its boxes, its longer side CELL_SIZE pixels."""
    scale = CELL_SIZE / max(image.width, image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    picture = load_rgb(root / image.image, at_least=size).resize(size)
    draw_boxes(picture, [_style_box(box, states, scale) for box in image.boxes], FONT_SIZE)
    return picture


def _style_box(box: CleanBox, states: Sequence[str], scale: float) -> StyledBox:
    xyxy = tuple(value * scale for value in box.xyxy)
    if box.iscrowd:
        return StyledBox(xyxy, ABSENT_COLOR, label=f"{box.label} (ignored)", width=2, dashed=True)
    color = palette_color(states.index(box.state) if box.state else len(states))
    return StyledBox(xyxy, color, label=f"{box.label}, {box.state}" if box.state else box.label, width=2)
