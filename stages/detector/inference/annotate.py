"""Detections drawn onto images and videos, to look at."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw

from detector.core.errors import UserError
from detector.engine.detections import Prediction
from detector.inference.decoding import Seen, open_in_full
from detector.inference.result_files import save_jpeg
from detector.inference.video import Film
from detector.plotting.boxes_on_images import colour, edged_rectangle, plate, plate_size
from detector.runners.tiled import ModelMetadata

# Longer side in pixels: a smaller image is enlarged, so that letters fit, a larger one shrunk.
SMALLEST, LARGEST = 640, 4096
QUALITY = 90
JPEG_SUFFIXES = (".jpg", ".jpeg")
LIGHT = 100  # luma from which black is read better than white


class Pictures:
    """Annotated copies in a folder, drawn by threads; of a video, an annotated video."""

    def __init__(self, folder: Path, facts: ModelMetadata, root: Path, threads: int) -> None:
        """root: the folder that all inputs lie in; theirs within it are repeated in `folder`."""
        self.folder, self.facts, self.root = folder, facts, root.resolve()
        self.film: Film | None = None
        self.source: Path | None = None
        self.most = 2 * threads
        self.pool, self.in_order = ThreadPoolExecutor(threads), ThreadPoolExecutor(1)
        self.waiting: deque[Future[None]] = deque()

    def add(self, seen: Seen, predictions: list[Prediction]) -> None:
        """Draw it soon. Raises UserError when an earlier one could not be written."""
        pool = self.pool if seen.frame is None else self.in_order
        self.waiting.append(pool.submit(self._write, seen, predictions))
        while len(self.waiting) > self.most:
            self.waiting.popleft().result()

    def close(self) -> None:
        """Wait for all that was added."""
        try:
            while self.waiting:
                self.waiting.popleft().result()
        finally:
            self.pool.shutdown(cancel_futures=True)
            self.in_order.shutdown(cancel_futures=True)
            if self.film is not None:
                self.film.close()

    def _write(self, seen: Seen, predictions: list[Prediction]) -> None:
        path = self._place(seen)
        try:
            image = open_in_full(seen.path, LARGEST) if seen.image is None else seen.image
        except OSError as error:
            raise UserError(f"{seen.path}: cannot be read any more ({error})") from None
        picture = annotated(image, seen.width, predictions, self.facts)
        if seen.frame is None:
            save_jpeg(picture, path, QUALITY)
            return
        if self.film is None or self.source != seen.path:
            if self.film is not None:
                self.film.close()
            self.film, self.source = Film(path, seen.frame.rate, picture.size), seen.path
        self.film.add(picture)

    def _place(self, seen: Seen) -> Path:
        """Where its copy goes: its name, with one more suffix where that is not the copy's format."""
        full = seen.path.parent.resolve() / seen.path.name
        path = self.folder / (full.relative_to(self.root) if full.is_relative_to(self.root) else seen.path.name)
        if seen.frame is not None:
            return path if path.suffix.lower() == ".mp4" else path.with_name(path.name + ".mp4")
        return path if path.suffix.lower() in JPEG_SUFFIXES else path.with_name(path.name + ".jpg")


class Label(NamedTuple):
    """corners: of its box in the picture; text: what stands beside it."""

    corners: tuple[float, ...]
    text: str
    colour: str


def annotated(image: Image.Image, width: int, predictions: Sequence[Prediction], facts: ModelMetadata) -> Image.Image:
    """A picture of an RGB image whose boxes are in pixels of `width` across: best detections on top."""
    longest = max(image.size)
    side = min(max(longest, SMALLEST), LARGEST)
    size = (max(1, round(image.width * side / longest)), max(1, round(image.height * side / longest)))
    picture = image.resize(size, Image.Resampling.BICUBIC) if size != image.size else image.copy()
    labels = [_label(prediction, size[0] / width, facts) for prediction in predictions]
    canvas = ImageDraw.Draw(picture)
    for label in reversed(labels):
        edged_rectangle(canvas, label.corners, label.colour, max(3, round(side / 480)), dashed=False)
    letters = 10 + side // 160
    places = places_of(labels, size, letters)
    for label, place in reversed(list(zip(labels, places, strict=True))):
        plate(canvas, place, label.text, label.colour, ink_on(label.colour), letters)
    return picture


def places_of(labels: Sequence[Label], size: tuple[int, int], letters: int) -> list[tuple[float, ...]]:
    """Corners of each label's plate: inside the picture, and where it covers the least of those before it."""
    placed: list[tuple[float, ...]] = []
    for label in labels:
        left, top, right, bottom = label.corners
        width, height = plate_size(label.text, letters)
        spots = [(left, top - height), (left, top), (left, bottom), (right - width, top - height),
                 (right - width, bottom - height), (left, bottom - height), (right - width, bottom)]  # fmt: skip
        inside = [(min(max(0, x), max(0, size[0] - width)), min(max(0, y), max(0, size[1] - height))) for x, y in spots]
        candidates = [(x, y, x + width, y + height) for x, y in inside]
        placed.append(min(candidates, key=lambda one: sum(_common(one, other) for other in placed)))
    return placed


def ink_on(ground: str) -> str:
    """Black or white, whichever is read better on a colour #rrggbb."""
    red, green, blue = (int(ground[at : at + 2], 16) for at in (1, 3, 5))
    return "black" if 0.299 * red + 0.587 * green + 0.114 * blue >= LIGHT else "white"


def _label(prediction: Prediction, scale: float, facts: ModelMetadata) -> Label:
    left, top, width, height = prediction["bbox"]
    name = facts.classes[prediction["category_id"] - 1]
    state = f", {facts.states[prediction['state'] - 1]}" if prediction["state"] else ""
    corners = tuple(value * scale for value in (left, top, left + width, top + height))
    return Label(corners, f"{name}{state} {prediction['score']:.2f}", colour(prediction["category_id"] - 1))


def _common(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Area that two boxes share."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return max(0.0, width) * max(0.0, height)
