"""Inputs decoded ahead of the model by threads, in their order; what cannot be read is a problem, not an end.

An animated image or one of several pages counts by its first picture. A JPEG is decoded at the size that the model
needs (`draft`), everything else in full: 4 bytes a pixel.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from itertools import groupby, repeat
from pathlib import Path
from typing import NamedTuple, TypeVar

from PIL import Image, UnidentifiedImageError

from detector.core.images import JPEG_FORMATS, Letterboxed, letterbox, open_image, unusable_depth, upright_size
from detector.inference.inputs import FORMATS, Input
from detector.inference.video import Frame, Unreadable, read_frames
from detector.runners.tiled import ModelMetadata, in_memory

MOST_PIXELS = 500_000_000  # of an image: 2 GB decoded
LARGE_PIXELS = 50_000_000  # images from here on are decoded one at a time, however many threads there are

Item = TypeVar("Item")
Result = TypeVar("Result")


class Seen(NamedTuple):
    """An image, or a frame of a video, for the model.

    width, height: pixels, upright. view: what the model sees of the whole. image: decoded in full, upright and RGB,
    where that was asked for. frame: None for an image. first_of_many: whether its file holds more pictures.
    """

    path: Path
    width: int
    height: int
    view: Letterboxed
    image: Image.Image | None
    frame: Frame | None
    first_of_many: bool


class Problem(NamedTuple):
    """An input that cannot be read, or not to its end, and why."""

    path: Path
    reason: str


class Asked(NamedTuple):
    """facts: of the model. pixels: whether tiles or something else need every image decoded in full.

    frames: whether the pictures of videos are needed later, which cannot be opened again.
    """

    facts: ModelMetadata
    pixels: bool
    frames: bool


def allow_large_images() -> None:
    """Let this process open images up to MOST_PIXELS: `see` refuses larger ones itself, before decoding."""
    Image.MAX_IMAGE_PIXELS = None


def see_all(inputs: Iterable[Input], asked: Asked, threads: int, most: int) -> Iterator[Seen | Problem]:
    """All inputs in their order, at most `most` decoded ahead by so many threads."""
    for kind, group in groupby(inputs, key=lambda one: one.kind):
        if kind == "image":
            yield from ahead(lambda one: see(one.path, asked), group, threads, most)
            continue
        for one in group:
            frames = _see_frames(one, asked)
            for seen in ahead(_next, repeat(frames), 1, most):
                if seen is None:
                    break
                yield seen


def ahead(function: Callable[[Item], Result], items: Iterable[Item], threads: int, most: int) -> Iterator[Result]:
    """function(item) for each, in their order, computed by threads at most `most` items ahead of who asks."""
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > most:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def see(path: Path, asked: Asked) -> Seen | Problem:
    """An image file."""
    try:
        with open_image(path, FORMATS) as image:
            return _of_image(path, image, asked)
    except UnidentifiedImageError:
        return Problem(path, "not an image" if path.stat().st_size else "empty file")
    except OSError as error:
        return Problem(path, error.strerror or str(error))
    except Exception as error:  # a broken file makes Pillow raise nearly anything
        return Problem(path, f"{type(error).__name__}: {error}")


def open_in_full(path: Path, longest: int) -> Image.Image:
    """An image that could be read before, upright and RGB; a JPEG at half its size or less, but `longest` pixels."""
    with open_image(path, FORMATS) as image:
        width, height = image.size
        with _large if width * height > LARGE_PIXELS else nullcontext():
            image.draft(None, (min(width, longest), min(height, longest)))
            return in_memory(image)


_large = threading.Lock()


def _of_image(path: Path, image: Image.Image, asked: Asked) -> Seen | Problem:
    width, height = upright_size(image)
    if width * height > MOST_PIXELS:
        return Problem(path, f"{width}x{height} pixels, at most {MOST_PIXELS // 1_000_000} million are decoded")
    with _large if width * height > LARGE_PIXELS else nullcontext():
        if useless := unusable_depth(image):
            return Problem(path, f"{useless}, which would turn black")
        many = image.format not in JPEG_FORMATS and getattr(image, "is_animated", False)
        full = in_memory(image) if asked.pixels else None
        view = letterbox(image if full is None else full, asked.facts.size, asked.facts.fill)
    return Seen(path, width, height, view, full, None, many)


def _see_frames(one: Input, asked: Asked) -> Iterator[Seen | Problem]:
    """The frames of a video or camera."""
    try:
        for frame, image in read_frames(one):
            view = letterbox(image, asked.facts.size, asked.facts.fill)
            yield Seen(one.path, *image.size, view, image if asked.pixels or asked.frames else None, frame, False)
    except Unreadable as error:
        yield Problem(one.path, str(error))


def _next(frames: Iterator[Seen | Problem]) -> Seen | Problem | None:
    """None at the end."""
    return next(frames, None)
