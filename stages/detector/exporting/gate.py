"""What an ONNX file must do to be kept: answer like the model, whatever the size of the batch."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from detector.core.errors import UserError
from detector.core.images import load_letterboxed
from detector.engine.detections import Detections
from detector.exporting.parity import Difference, difference
from detector.runners.tiled import ModelMetadata

# Two boxes with almost the same score may change places at NMS: a detection that only one side has may have at
# most this score.
WEAK = 0.05
SHOWN = 0.05  # the lowest score in the picture
COLOURS = ((0, 220, 90), (255, 60, 60))  # of the two answers


class Tolerance(NamedTuple):
    """box: pixels of the input; score: 0 to 1."""

    box: float
    score: float


class Compared(NamedTuple):
    """The image on which two answers differ most, and by how much; worst: the largest of each over all images."""

    image: int
    difference: Difference
    worst: Difference

    def is_within(self, tolerance: Tolerance) -> bool:
        """Whether all images agree."""
        return _excess(self.difference, tolerance) <= 1


def compare(expected: list[Detections], found: list[Detections], tolerance: Tolerance, most: int) -> Compared:
    """Two answers to the same images, in pixels of the input, of at most `most` detections each."""
    differences = [difference(one, other, most, tolerance.score) for one, other in zip(expected, found, strict=True)]
    image = int(np.argmax([_excess(one, tolerance) for one in differences]))
    worst = Difference(*(max(values) for values in zip(*differences, strict=True)))
    return Compared(image, differences[image], worst)


def draw_both(path: Path, facts: ModelMetadata, expected: Detections, found: Detections, target: Path) -> None:
    """Two answers to an image side by side, as the model sees it: boxes with class and score."""
    pixels = load_letterboxed(path, facts.size, facts.fill).pixels
    height, width = facts.size
    sheet = Image.new("RGB", (2 * width, height))
    for place, (answer, colour) in enumerate(zip((expected, found), COLOURS, strict=True)):
        picture = Image.fromarray(pixels)
        draw = ImageDraw.Draw(picture)
        for box, label, score in zip(answer.boxes_xyxy.tolist(), answer.labels, answer.scores, strict=True):
            if score >= SHOWN and np.isfinite(box).all():
                left, top, right, bottom = box
                draw.rectangle((left, top, max(left, right), max(top, bottom)), outline=colour)
                draw.text((left + 2, top), f"{facts.classes[label - 1]} {score:.2f}", fill=colour)
        sheet.paste(picture, (place * width, 0))
    target.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(target)


def refuse(
    compared: Compared,
    tolerance: Tolerance,
    what: str,
    path: str,
    facts: ModelMetadata,
    pair: tuple[Detections, Detections],
    shown: Path,
) -> None:
    """Raise UserError about the worst image, with a picture of both answers."""
    draw_both(Path(path), facts, *pair, shown)
    found = compared.difference
    raise UserError(
        f"{what} on {path}: boxes by {found.box:.3g} pixels, scores by {found.score:.3g}, a detection of score "
        f"{found.unmatched:.3g} on one side only; allowed are {tolerance.box}, {tolerance.score} and {WEAK}. "
        f"{shown} shows both answers. No model file is left; metrics/export.json is not written."
    )


def _excess(found: Difference, tolerance: Tolerance) -> float:
    """How many times as much as is allowed; infinite for what is not a number."""
    shares = (found.box / tolerance.box, found.score / tolerance.score, found.unmatched / WEAK)
    return max(float("inf") if np.isnan(share) else share for share in shares)
