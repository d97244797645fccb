"""Reading and writing videos, by OpenCV: the one optional package, loaded when there is a video."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
from PIL import Image

from detector.core.errors import UserError
from detector.inference.inputs import Input

CODEC = "mp4v"  # MPEG-4 Part 2, which every build of OpenCV writes
RATE = 25.0  # frames a second, where a camera or a file does not tell
# A container's count of frames is a guess for some codecs; more missing than this share are a broken file.
MISSING = 0.02


class Frame(NamedTuple):
    """number: from 1. seconds: since the start, None for a camera. rate: frames a second of its video."""

    number: int
    seconds: float | None
    rate: float


class Unreadable(Exception):
    """Why a video or a camera cannot be read, or no further."""


def opencv() -> ModuleType:
    """The package. Raises UserError when it is not installed."""
    # It would write of broken files on its own account.
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
    """What a video's file says, 0 when it does not or cannot be read."""
    cv2 = opencv()
    video = cv2.VideoCapture(str(path))
    count = int(video.get(cv2.CAP_PROP_FRAME_COUNT)) if video.isOpened() else 0
    video.release()
    return max(0, count)


def read_frames(source: Input) -> Iterator[tuple[Frame, Image.Image]]:
    """The frames of a video's file, turned as it says, or of a camera, which never ends.

    Raises Unreadable, and with it tells of a file that ends too early.
    """
    cv2 = opencv()
    camera = source.kind == "camera"
    video = cv2.VideoCapture(int(str(source.path)) if camera else str(source.path))
    try:
        if not video.isOpened():
            raise Unreadable("no such camera, or another program has it" if camera else "not a video, or a broken one")
        rate = video.get(cv2.CAP_PROP_FPS) or RATE
        number = 0
        while (answer := video.read())[0]:
            number += 1
            pixels = np.ascontiguousarray(answer[1][..., ::-1])  # BGR
            yield Frame(number, None if camera else (number - 1) / rate, rate), Image.fromarray(pixels)
        claimed = 0 if camera else int(video.get(cv2.CAP_PROP_FRAME_COUNT))
        if camera or number < claimed * (1 - MISSING) - 1:
            raise Unreadable(f"it ended after {number} of {claimed} frames" if claimed > 0 else "the camera stopped")
        if number == 0:
            raise Unreadable("it has no frames")
    finally:
        video.release()


class Film:
    """A video that is being written beside its final name, which it gets when it is whole."""

    def __init__(self, path: Path, rate: float, size: tuple[int, int]) -> None:
        self.path, self.part = path, path.with_name(f"part-{path.name}")
        self.count, self.size = 0, size
        self.cv2 = opencv()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"{path.parent}: cannot be made ({error.strerror})") from None
        self.writer = self.cv2.VideoWriter(str(self.part), self.cv2.VideoWriter_fourcc(*CODEC), rate, size)
        if not self.writer.isOpened():
            raise UserError(f"{path}: OpenCV cannot write this video ({CODEC}, {size[0]}x{size[1]}, {rate:g}/s)")

    def add(self, picture: Image.Image) -> None:
        """The next frame, RGB."""
        pixels = np.asarray(picture.resize(self.size) if picture.size != self.size else picture)
        self.writer.write(np.ascontiguousarray(pixels[..., ::-1]))
        self.count += 1

    def close(self) -> None:
        """Finish the file. Raises UserError when it lacks frames: OpenCV does not tell of a full disk."""
        self.writer.release()
        if self.count and count_frames(self.part) < self.count:
            self.part.unlink(missing_ok=True)
            raise UserError(f"{self.path}: the video could not be written to its end; is the disk full?")
        self.part.replace(self.path)
