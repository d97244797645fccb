"""Decode inputs in threads ahead of the model, in order; an unreadable input is reported, and the rest goes on.

Of an animated or multi-page image only the first picture is used. A JPEG is decoded at the size that the model needs
(`draft`), everything else in full size: 4 bytes per pixel.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from itertools import groupby, repeat
from pathlib import Path
from typing import NamedTuple, TypeVar

from PIL import Image, UnidentifiedImageError

from detector.core.images import JPEG_FORMATS, LetterboxedImage, find_depth_problem, letterbox, open_image, upright_size
from detector.inference.inputs import FORMATS, Input
from detector.inference.video import Frame, VideoError, read_frames
from detector.runners.tiled import ModelMetadata, to_upright_rgb

MAX_PIXELS = 500_000_000  # per image: 2 GB decoded
LARGE_PIXELS = 50_000_000  # larger images are decoded one at a time, regardless of the number of threads

Item = TypeVar("Item")
Result = TypeVar("Result")


class DecodedImage(NamedTuple):
    """An image or a video frame, ready for the model.

    width, height: pixels of the upright image. letterboxed: the model input. image: full size, upright and RGB, if
    requested. frame: None for an image. is_multi_page: whether the file contains more pictures.
    """

    path: Path
    width: int
    height: int
    letterboxed: LetterboxedImage
    image: Image.Image | None
    frame: Frame | None
    is_multi_page: bool


class UnreadableInput(NamedTuple):
    """An input that cannot be read, or not completely, and why."""

    path: Path
    reason: str


class DecodeOptions(NamedTuple):
    """keep_full_size: decode every image in full size, as tiling needs.

    keep_frames: keep the full-size frames of videos, which cannot be opened again later.
    """

    metadata: ModelMetadata
    keep_full_size: bool
    keep_frames: bool


def allow_large_images() -> None:
    """Let this process open images up to MAX_PIXELS; `decode_image` rejects larger ones before decoding."""
    Image.MAX_IMAGE_PIXELS = None


def decode_ahead(
    inputs: Iterable[Input], options: DecodeOptions, threads: int, max_ahead: int
) -> Iterator[DecodedImage | UnreadableInput]:
    """Yield all inputs in order, decoding at most `max_ahead` of them ahead in this many threads."""
    for kind, group in groupby(inputs, key=lambda one: one.kind):
        if kind == "image":
            yield from map_ahead(lambda one: decode_image(one.path, options), group, threads, max_ahead)
            continue
        for one in group:
            frames = _decode_frames(one, options)
            for decoded in map_ahead(_next_frame, repeat(frames), 1, max_ahead):
                if decoded is None:
                    break
                yield decoded


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int, max_ahead: int
) -> Generator[Result, None, None]:
    """Yield function(item) for each item in order, computed in threads at most `max_ahead` items ahead."""
    pending: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > max_ahead:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


def decode_image(path: Path, options: DecodeOptions) -> DecodedImage | UnreadableInput:
    """Decode an image file."""
    try:
        with open_image(path, FORMATS) as image:
            return _decode_opened(path, image, options)
    except UnidentifiedImageError:
        return UnreadableInput(path, "not an image" if path.stat().st_size else "empty file")
    except OSError as error:
        return UnreadableInput(path, error.strerror or str(error))
    except Exception as error:  # a broken file makes Pillow raise nearly anything
        return UnreadableInput(path, f"{type(error).__name__}: {error}")


def open_full_size(path: Path, longest: int) -> Image.Image:
    """Open an image again, upright and RGB; a JPEG may be scaled down, but not below `longest` pixels."""
    with open_image(path, FORMATS) as image:
        width, height = image.size
        with _large_image_lock if width * height > LARGE_PIXELS else nullcontext():
            image.draft(None, (min(width, longest), min(height, longest)))
            return to_upright_rgb(image)


_large_image_lock = threading.Lock()


def _decode_opened(path: Path, image: Image.Image, options: DecodeOptions) -> DecodedImage | UnreadableInput:
    width, height = upright_size(image)
    if width * height > MAX_PIXELS:
        return UnreadableInput(path, f"{width}x{height} pixels, at most {MAX_PIXELS // 1_000_000} million are decoded")
    with _large_image_lock if width * height > LARGE_PIXELS else nullcontext():
        if problem := find_depth_problem(image):
            return UnreadableInput(path, f"{problem}, which would turn black")
        is_multi_page = image.format not in JPEG_FORMATS and getattr(image, "is_animated", False)
        full = to_upright_rgb(image) if options.keep_full_size else None
        letterboxed = letterbox(image if full is None else full, options.metadata.size, options.metadata.fill)
    return DecodedImage(path, width, height, letterboxed, image=full, frame=None, is_multi_page=is_multi_page)


def _decode_frames(one: Input, options: DecodeOptions) -> Iterator[DecodedImage | UnreadableInput]:
    """Yield the frames of a video or camera."""
    try:
        for frame, image in read_frames(one):
            letterboxed = letterbox(image, options.metadata.size, options.metadata.fill)
            full = image if options.keep_full_size or options.keep_frames else None
            yield DecodedImage(one.path, *image.size, letterboxed, image=full, frame=frame, is_multi_page=False)
    except VideoError as error:
        yield UnreadableInput(one.path, str(error))


def _next_frame(frames: Iterator[DecodedImage | UnreadableInput]) -> DecodedImage | UnreadableInput | None:
    """Return the next frame, None at the end."""
    return next(frames, None)
