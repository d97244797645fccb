"""Decode inputs in threads ahead of the model, in order; an unreadable input is reported, and the rest goes on.

Of an animated or multi-page image only the first picture is used. A JPEG is decoded at about the size that the model
needs, everything else in full size.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import groupby, repeat
from pathlib import Path
from typing import NamedTuple, TypeVar

from PIL import Image

from detector.core.images import ImageError, open_image
from detector.core.path_lists import find_path_problem
from detector.core.pixels import LetterboxedImage, letterbox
from detector.inference.inputs import Input
from detector.inference.video import Frame, VideoError, read_frames
from detector.runners.model_metadata import ModelMetadata

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
    if problem := find_path_problem(str(path)):
        return UnreadableInput(path, problem)
    try:
        image = open_image(path)
        size, fill = options.metadata.size, options.metadata.fill
        full = image.decode() if options.keep_full_size else None
        letterboxed = image.letterbox(size, fill) if full is None else letterbox(full, size, fill)
    except ImageError as error:
        return UnreadableInput(path, error.reason)
    is_multi_page = image.frames > 1
    return DecodedImage(
        path, image.width, image.height, letterboxed, image=full, frame=None, is_multi_page=is_multi_page
    )


def _decode_frames(one: Input, options: DecodeOptions) -> Iterator[DecodedImage | UnreadableInput]:
    """Yield the frames of a video or camera."""
    if problem := find_path_problem(str(one.path)):
        yield UnreadableInput(one.path, problem)
        return
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
