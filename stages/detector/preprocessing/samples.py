"""A picture of sample images with their boxes; imports Pillow only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from detector.core.images import load_rgb
from detector.manifest.manifest import CleanImage, Labels
from detector.plotting.box_drawing import StyledBox, draw_boxes, load_font
from detector.plotting.names import shorten_name
from detector.plotting.palette import palette_color
from detector.plotting.picture_file import write_picture

ROWS, COLUMNS = 3, 4
CELL_SIZE, GAP = 320, 8  # pixels: the longer side of an image, and the space around it
CAPTION_SIZE, FONT_SIZE = 12, 11  # pixels
MAX_CAPTION_LENGTH = 40  # characters


def draw_samples(images: Sequence[CleanImage], labels: Labels, root: Path, path: Path) -> None:
    """Write images that are evenly spaced over the dataset, with boxes in the color of their state.

    root: folder that the images' paths are relative to.
    """
    count = min(ROWS * COLUMNS, len(images))
    picked = [images[index * len(images) // count] for index in range(count)]
    pictures = [draw_sample(image, labels.states, root) for image in picked]
    width, height = CELL_SIZE + GAP, max(picture.height for picture in pictures) + CAPTION_SIZE + 2 * GAP
    sheet = Image.new("RGB", (COLUMNS * width + GAP, -(-count // COLUMNS) * height + GAP), "white")
    canvas = ImageDraw.Draw(sheet)
    for number, (image, picture) in enumerate(zip(picked, pictures, strict=True)):
        left, top = number % COLUMNS * width + GAP, number // COLUMNS * height + GAP
        caption = shorten_name(Path(image.image).name, MAX_CAPTION_LENGTH)
        canvas.text((left, top), caption, fill="black", font=load_font(CAPTION_SIZE))
        sheet.paste(picture, (left, top + CAPTION_SIZE + GAP))
    write_picture(path, sheet, "JPEG", quality=80)


def draw_sample(image: CleanImage, states: Sequence[str], root: Path) -> Image.Image:
    """The image with its boxes, its longer side CELL_SIZE pixels."""
    scale = CELL_SIZE / max(image.width, image.height)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    picture = load_rgb(root / image.image, at_least=size).resize(size)
    boxes = [
        StyledBox(
            tuple(value * scale for value in box.xyxy),
            palette_color(states.index(box.state) if box.state else len(states)),
            label=f"{box.label}, {box.state}" if box.state else box.label,
            width=2,
        )
        for box in image.boxes
    ]
    draw_boxes(picture, boxes, FONT_SIZE)
    return picture
