"""Read and write videos with OpenCV, an optional package that is imported only when needed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
from PIL import Image

from detector.core.errors import UserError
from detector.core.output_files import replace_file
from detector.core.path_lists import find_path_problem
from detector.inference.inputs import Input

CODEC = "mp4v"  # MPEG-4 Part 2, which every build of OpenCV writes
DEFAULT_FPS = 25.0  # frames per second, if a camera or a file does not specify them
# For some codecs the frame count of a container is an estimate; if a larger fraction is missing, the file is broken.
MAX_MISSING_FRACTION = 0.02


class Frame(NamedTuple):
    """number: from 1. seconds: since the start, None for a camera. fps: frames per second of its video."""

    number: int
    seconds: float | None
    fps: float


class VideoError(Exception):
    """A video or camera cannot be read, or not completely."""


def import_opencv() -> ModuleType:
    """Import OpenCV. Raises UserError when it is not installed."""
    # Otherwise it prints its own messages about broken files.
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    try:
        import cv2
    except ImportError as error:
        raise UserError(
            f"videos and cameras need OpenCV, which cannot be loaded ({error}); `pip install opencv-python-headless`"
        ) from None
    return cv2  # type: ignore[no-any-return,unused-ignore]


def count_frames(path: Path) -> int:
    """Return the frame count stated in a video file, 0 if there is none or the file cannot be read."""
    cv2 = import_opencv()
    if find_path_problem(str(path)):  # OpenCV crashes with a name that is not UTF-8
        return 0
    video = cv2.VideoCapture(str(path))
    count = int(video.get(cv2.CAP_PROP_FRAME_COUNT)) if video.isOpened() else 0
    video.release()
    return max(0, count)


def read_frames(source: Input) -> Iterator[tuple[Frame, Image.Image]]:
    """Yield the frames of a video, rotated as its metadata specify, or of a camera, which never ends.

    Raises VideoError, also when a file ends too early.
    """
    cv2 = import_opencv()
    camera = source.kind == "camera"
    video = cv2.VideoCapture(int(str(source.path)) if camera else str(source.path))
    try:
        if not video.isOpened():
            raise VideoError("no such camera, or it is in use" if camera else "not a video, or a broken one")
        fps = video.get(cv2.CAP_PROP_FPS) or DEFAULT_FPS
        number = 0
        while (answer := video.read())[0]:
            number += 1
            pixels = np.ascontiguousarray(answer[1][..., ::-1])  # BGR
            yield Frame(number, None if camera else (number - 1) / fps, fps), Image.fromarray(pixels)
        claimed = 0 if camera else int(video.get(cv2.CAP_PROP_FRAME_COUNT))
        if camera or number < claimed * (1 - MAX_MISSING_FRACTION) - 1:
            raise VideoError(f"it ended after {number} of {claimed} frames" if claimed > 0 else "the camera stopped")
        if number == 0:
            raise VideoError("it has no frames")
    finally:
        video.release()


class VideoWriter:
    """Writes a video, which gets its name when it is complete."""

    def __init__(self, path: Path, fps: float, size: tuple[int, int]) -> None:
        """Raises UserError when OpenCV cannot write it, and OSError when its folder cannot be created."""
        self.path, self.count, self.size = path, 0, size
        self.cv2 = import_opencv()
        self.replacing = ExitStack()
        self.part = self.replacing.enter_context(replace_file(path))
        self.writer = self.cv2.VideoWriter(str(self.part), self.cv2.VideoWriter_fourcc(*CODEC), fps, size)
        if not self.writer.isOpened():
            with self.replacing:
                raise UserError(f"{path}: OpenCV cannot write this video ({CODEC}, {size[0]}x{size[1]}, {fps:g} fps)")

    def add(self, picture: Image.Image) -> None:
        """Append a frame, RGB."""
        pixels = np.asarray(picture.resize(self.size) if picture.size != self.size else picture)
        self.writer.write(np.ascontiguousarray(pixels[..., ::-1]))
        self.count += 1

    def close(self) -> None:
        """Finish the file. Raises UserError if frames are missing: OpenCV does not report a full disk."""
        with self.replacing:
            self.writer.release()
            if self.count and count_frames(self.part) < self.count:
                raise UserError(f"{self.path}: the video could not be written completely; is the disk full?")
