"""Drawing galleries: the truth dashed, what was found solid, in colours that colour-blind readers tell apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from detector.core.images import open_image
from detector.evaluation.error_types import KINDS, MISSED, RIGHT, Pairs
from detector.evaluation.galleries import Shown
from detector.plotting.boxes_on_images import PALETTE, edged_rectangle, font, plate, plate_size, rectangle

TRUTH, FOUND, ABSENT = PALETTE[2], PALETTE[3], "#888888"
PANEL = 720  # longest side in pixels of a picture, however large the image: lines and letters keep their size
MOST_LABELS = 12  # in a picture with more boxes only the mistakes are named
FONT, CAPTION, GAP = 15, 18, 8
CONTEXT = 1.5  # what a close-up shows around a box, in its longer sides


class Names(NamedTuple):
    """Of the classes, and of the states by id - 1."""

    classes: Sequence[str]
    states: Sequence[str]


class Window(NamedTuple):
    """A part of an image, in its pixels, and the pixels of the drawing for one of them."""

    left: float
    top: float
    right: float
    bottom: float
    scale: float


class Drawn(NamedTuple):
    """A box to draw. label: empty for none. wrong: drawn thicker, and above the others."""

    bbox: Sequence[float]
    label: str
    colour: str
    dashed: bool
    wrong: bool


def draw_galleries(
    galleries: dict[str, list[Shown]], pairs: Pairs, images: Sequence[dict[str, Any]], names: Names,
    thresholds: NDArray[np.float64], root: Path, folder: Path,
) -> Iterator[Path]:  # fmt: skip
    """Write folder/{gallery}_{number}.jpg for each, and yield its path; images: COCO's, in the order of their ids.

    An image twice: for a whole image, the truth beside what was found; for a mistake, both in one picture, and
    a close-up.
    """
    folder.mkdir(parents=True, exist_ok=True)
    found, missed = pairs.found(thresholds), pairs.missed(thresholds)
    for gallery, shown in galleries.items():
        for number, one in enumerate(shown, 1):
            image = images[one.image]
            truth, hits = _truth(pairs, one, missed, names), _found(pairs, one, found, names)
            with open_image(root / image["file_name"]) as opened:
                pixels = opened.convert("RGB")
            whole = fitted((0, 0, image["width"], image["height"]))
            if one.detection < 0 and one.object < 0:
                panels = [draw(pixels, whole, truth), draw(pixels, whole, hits)]
            else:
                close = close_up(pairs, one, image)
                panels = [draw(pixels, whole, truth + hits, frame=close), draw(pixels, close, truth + hits)]
            path = folder / f"{gallery}_{number:02}.jpg"
            put_together(panels, f"{caption(pairs, one, names)} · {image['file_name']}").save(path, quality=80)
            yield path


def caption(pairs: Pairs, one: Shown, names: Names) -> str:
    """What a picture shows."""
    if one.detection >= 0:
        kind = KINDS[pairs.kinds[one.detection]]
        text = f"{kind}: {_name(names, pairs.categories[one.detection], pairs.states[one.detection])}"
        text += f" {pairs.scores[one.detection]:.2f}"
        partner = pairs.partners[one.detection]
        if partner >= 0 and kind != KINDS[RIGHT]:
            text += f", truly {_name(names, pairs.objects.categories[partner], pairs.objects.states[partner])}"
        return text
    if one.object >= 0:
        return f"{MISSED}: {_name(names, pairs.objects.categories[one.object], pairs.objects.states[one.object])}"
    return "left: truth (dashed), right: found (solid), thick: missed or wrong"


def fitted(box: tuple[float, float, float, float]) -> Window:
    """The window that shows a box [left, top, right, bottom] at PANEL pixels."""
    return Window(*box, PANEL / max(1.0, box[2] - box[0], box[3] - box[1]))


def close_up(pairs: Pairs, one: Shown, image: dict[str, Any]) -> Window:
    """A square around what the picture is about, inside the image."""
    bbox = pairs.boxes_xywh[one.detection] if one.detection >= 0 else pairs.objects.boxes_xywh[one.object]
    left, top, width, height = bbox.tolist()
    side = (1 + CONTEXT) * max(width, height, 8)
    x, y = left + width / 2 - side / 2, top + height / 2 - side / 2
    return fitted((max(0, x), max(0, y), min(image["width"], x + side), min(image["height"], y + side)))


def draw(pixels: Image.Image, window: Window, boxes: Sequence[Drawn], frame: Window | None = None) -> Image.Image:
    """The part of an image that `window` shows, with boxes; frame: where a close-up is."""
    size = (max(1, round((window.right - window.left) * window.scale)),
            max(1, round((window.bottom - window.top) * window.scale)))  # fmt: skip
    picture = pixels.resize(size, Image.Resampling.BICUBIC, box=window[:4])
    canvas = ImageDraw.Draw(picture)
    for box in sorted(boxes, key=lambda box: box.wrong):
        _draw_box(canvas, window, box)
    if frame is not None:
        corners = _place(window, frame[:4])
        rectangle(canvas, corners, "black", 4, dashed=False)
        rectangle(canvas, corners, "white", 2, dashed=False)
    for box in boxes:
        if box.label:
            _draw_label(canvas, window, box, size)
    return picture


def put_together(panels: Sequence[Image.Image], text: str) -> Image.Image:
    """Pictures side by side above a line of text."""
    letters = font(CAPTION)
    width = sum(panel.width for panel in panels) + GAP * (len(panels) - 1)
    while letters.getlength(text) > width - 2 * GAP and len(text) > 4:
        text = text[:-2].rstrip("…") + "…"
    height = max(panel.height for panel in panels)
    sheet = Image.new("RGB", (width, height + 2 * CAPTION), "white")
    left = 0
    for panel in panels:
        sheet.paste(panel, (left, (height - panel.height) // 2))
        left += panel.width + GAP
    ImageDraw.Draw(sheet).text((GAP, height + CAPTION), text, fill="black", font=letters, anchor="lm")
    return sheet


def _truth(pairs: Pairs, one: Shown, missed: NDArray[np.bool_], names: Names) -> list[Drawn]:
    """The objects of the image; in a picture of one mistake only that one is named."""
    objects, whole = pairs.objects, one.detection < 0 and one.object < 0
    places = np.flatnonzero(objects.images == one.image)
    drawn = []
    for place in places.tolist():
        about = bool(missed[place]) if whole else place == one.object
        named = about or (whole and len(places) <= MOST_LABELS)
        label = _name(names, objects.categories[place], objects.states[place]) if named else ""
        colour = ABSENT if objects.absent[place] else TRUTH
        drawn.append(Drawn(objects.boxes_xywh[place].tolist(), label, colour, dashed=True, wrong=about))
    return drawn


def _found(pairs: Pairs, one: Shown, found: NDArray[np.bool_], names: Names) -> list[Drawn]:
    """The detections in the image, likewise."""
    whole = one.detection < 0 and one.object < 0
    places = np.flatnonzero((pairs.images == one.image) & found)
    drawn = []
    for place in places.tolist():
        about = bool(pairs.kinds[place] != RIGHT) if whole else place == one.detection
        named = about or (whole and len(places) <= MOST_LABELS)
        name = f"{_name(names, pairs.categories[place], pairs.states[place])} {pairs.scores[place]:.2f}"
        drawn.append(Drawn(pairs.boxes_xywh[place].tolist(), name if named else "", FOUND, dashed=False, wrong=about))
    return drawn


def _name(names: Names, category: int, state: int) -> str:
    """Its class and, where one is known, its state."""
    return names.classes[category] + (f", {names.states[state - 1]}" if names.states and state else "")


def _place(window: Window, box: Sequence[float]) -> list[float]:
    """Corners of an image's box in the drawing."""
    left, top, right, bottom = box
    return [(left - window.left) * window.scale, (top - window.top) * window.scale,
            (right - window.left) * window.scale, (bottom - window.top) * window.scale]  # fmt: skip


def _draw_box(canvas: ImageDraw.ImageDraw, window: Window, box: Drawn) -> None:
    left, top, width, height = box.bbox
    corners = _place(window, (left, top, left + width, top + height))
    line = 6 if box.wrong else 3
    edged_rectangle(canvas, corners, box.colour, line, box.dashed)


def _draw_label(canvas: ImageDraw.ImageDraw, window: Window, box: Drawn, size: tuple[int, int]) -> None:
    """What was found above its box, the truth below; inside the picture always."""
    left, top, right, bottom = _place(window, [*box.bbox[:2], box.bbox[0] + box.bbox[2], box.bbox[1] + box.bbox[3]])
    if right < 0 or bottom < 0 or left > size[0] or top > size[1]:
        return
    width, height = plate_size(box.label, FONT)
    x = min(max(0, left), max(0, size[0] - width))
    y = min(max(0, bottom if box.dashed else top - height), size[1] - height)
    plate(canvas, (x, y, x + width, y + height), box.label, box.colour, "black", FONT)
