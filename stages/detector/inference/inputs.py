"""What to look at: images, folders, patterns, videos and a camera, as a list in which each stands once."""

from __future__ import annotations

import glob
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from detector.core.errors import UserError

# What Pillow reads without the help of another program; PostScript would be run.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF")
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".png", ".apng", ".bmp", ".gif", ".tif", ".tiff", ".webp",
                  ".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".avif")  # fmt: skip
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv")
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")


class Input(NamedTuple):
    """path: as it was given or found; for a camera its number."""

    path: Path
    kind: Literal["image", "video", "camera"]


class Inputs(NamedTuple):
    """listed: in the order given, a folder's files sorted. doubles: how many stood there again.

    left_out: files of folders that are no images or videos by their names, by suffix.
    """

    listed: list[Input]
    doubles: int
    left_out: Counter[str]


def gather(given: list[str], out: Path) -> Inputs:
    """All inputs; nothing inside `out` is one, or else a second run would look at the pictures of the first.

    A folder is searched through, without hidden folders and links to folders. Raises UserError for what is missing,
    is a URL, or holds no image.
    """
    listed: dict[str, Input] = {}
    count, left_out = 0, Counter[str]()
    for text in given:
        found = list(_of_argument(text, out.resolve(), left_out))
        count += len(found)
        for one in found:
            listed.setdefault(str(one.path.resolve()), one)
    inputs = list(listed.values())
    if len(inputs) > 1 and any(one.kind == "camera" for one in inputs):
        raise UserError("a camera never ends, so it has to be the only input")
    return Inputs(inputs, count - len(inputs), left_out)


def _of_argument(text: str, out: Path, left_out: Counter[str]) -> Iterator[Input]:
    path = Path(text)
    if _URL.match(text):
        raise UserError(f"{text}: URLs are not fetched; download it, and name the file")
    if os.path.lexists(path):
        yield from _of_path(path, out, left_out)
    elif text.isdecimal():
        yield Input(path, "camera")
    elif glob.has_magic(text):
        matches = sorted(Path(match) for match in glob.glob(text, recursive=True))  # noqa: PTH207  ** and absolute ones
        outside = [match for match in matches if not _inside(match, out)]
        if not outside:
            raise UserError(f"{text}: no file matches this pattern")
        for match in outside:
            if match.is_file() or not match.is_dir():
                yield from _named(match, left_out)
    else:
        raise UserError(f"{text}: no such file or folder")


def _of_path(path: Path, out: Path, left_out: Counter[str]) -> Iterator[Input]:
    if path.is_dir():
        found = list(_of_folder(path, out, left_out))
        if not found:
            raise UserError(f"{path}: no image or video in this folder; expected {', '.join(IMAGE_SUFFIXES)} …")
        yield from found
    elif path.exists() and not path.is_file():
        raise UserError(f"{path}: expected a file or a folder, found a device or a pipe")
    else:  # whatever its suffix: it was named
        yield Input(path, "video" if path.suffix.lower() in VIDEO_SUFFIXES else "image")


def _of_folder(folder: Path, out: Path, left_out: Counter[str]) -> Iterator[Input]:
    def stop(error: OSError) -> None:
        raise UserError(f"{error.filename}: the folder cannot be read ({error.strerror})")

    for place, folders, files in os.walk(folder, onerror=stop):
        folders[:] = sorted(name for name in folders if name[0] != "." and not _inside(Path(place, name), out))
        for name in sorted(files):
            if not _inside(Path(place, name), out):
                yield from _named(Path(place, name), left_out)


def _named(path: Path, left_out: Counter[str]) -> Iterator[Input]:
    """A file that was found, if it is an image or a video by its name."""
    suffix = path.suffix.lower()
    if path.exists() and not path.is_file():
        left_out["no file"] += 1
    elif suffix in IMAGE_SUFFIXES:
        yield Input(path, "image")
    elif suffix in VIDEO_SUFFIXES:
        yield Input(path, "video")
    else:
        left_out[suffix or "no suffix"] += 1


def _inside(path: Path, folder: Path) -> bool:
    """folder: resolved."""
    return path.resolve().is_relative_to(folder)
