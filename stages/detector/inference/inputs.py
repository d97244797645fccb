"""Collect inputs: images, folders, patterns, lists of paths, videos or a camera, without duplicates."""

from __future__ import annotations

import glob
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from detector.core.errors import UserError
from detector.core.images import IMAGE_SUFFIXES
from detector.core.path_lists import find_path_problem, read_path_list

LIST_SUFFIX = ".txt"
STANDARD_INPUT = "-"
VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".wmv", ".flv")
_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")


class Input(NamedTuple):
    """path: as given on the command line or found in a folder; for a camera its number."""

    path: Path
    kind: Literal["image", "video", "camera"]


class CollectedInputs(NamedTuple):
    """inputs: in the order given, files of a folder sorted. duplicates: number of inputs given more than once.

    root: the innermost folder that contains the folders and files given, resolved; outputs name inputs relative to it.
    skipped: number of files in folders that are neither images nor videos by name, per suffix.
    """

    inputs: list[Input]
    root: Path
    duplicates: int
    skipped: Counter[str]


def collect_inputs(given: list[str], out: Path) -> CollectedInputs:
    """Collect all inputs outside `out`; otherwise a second run would process the pictures of the first.

    Folders are searched recursively, without hidden folders and links to folders. Raises UserError for an input that
    is missing or a URL, a folder without images, a list of which no path exists, and a name of `root` or `out` that
    results cannot contain.
    """
    by_path: dict[str, Input] = {}
    count, skipped = 0, Counter[str]()
    paths = [one for text in given for one in _split_list(text)]
    for text, is_listed in paths:
        found = list(_expand_argument(text, out.resolve(), skipped, is_listed=is_listed))
        count += len(found)
        for one in found:
            by_path.setdefault(str(one.path.resolve()), one)
    inputs = list(by_path.values())
    if len(inputs) > 1 and any(one.kind == "camera" for one in inputs):
        raise UserError("a camera must be the only input, because it never ends")
    folders = {Path(text).resolve() for text, _ in paths if Path(text).is_dir()}
    root = _find_root(folders, inputs)
    for folder in (root, out.resolve()):
        if problem := find_path_problem(str(folder)):
            raise UserError(f"{folder}: {problem}; rename the folder")
    return CollectedInputs(inputs, root, count - len(inputs), skipped)


def name_input(path: Path, root: Path) -> str:
    """Return the path of an input relative to `CollectedInputs.root`, with `/`, as outputs name it."""
    return (path.parent.resolve() / path.name).relative_to(root).as_posix()


def _find_root(folders: set[Path], inputs: list[Input]) -> Path:
    """folders: those given; each counts as a whole, so that names do not depend on where in it images lie."""
    parents = {one.path.parent.resolve() for one in inputs}
    outside = [parent for parent in parents if not any(parent.is_relative_to(folder) for folder in folders)]
    try:
        return Path(os.path.commonpath([*folders, *outside]))
    except ValueError:
        raise UserError("the inputs are on different drives; process each drive with a command of its own") from None


def _split_list(text: str) -> list[tuple[str, bool]]:
    """The paths in a list or on standard input, or the argument itself; and whether it is from a list.

    Paths in a list are relative to the current folder or, if there is no such file, to the folder of the list.
    """
    path = Path(text)
    if text == STANDARD_INPUT:
        name, folder, lines = "standard input", Path(), _read_standard_input()
    elif path.suffix.lower() == LIST_SUFFIX and path.is_file():
        name, folder, lines = text, path.parent, [line.removeprefix("\ufeff") for line in read_path_list(path)]
    else:
        return [(text, False)]
    paths = [line if os.path.lexists(line) or not (folder / line).exists() else str(folder / line) for line in lines]
    if not any(os.path.lexists(one) for one in paths):
        found = f"no file or folder {lines[0]!r}, nor any other path in it" if lines else "no paths"
        raise UserError(f"{name}: {found}; expected one path per line, relative to {Path.cwd()}")
    return [(one, True) for one in paths]


def _read_standard_input() -> list[str]:
    """File names may be any bytes."""
    lines = os.fsdecode(sys.stdin.buffer.read()).split("\n")
    return [line for text in lines if (line := text.removesuffix("\r"))]


def _expand_argument(text: str, out: Path, skipped: Counter[str], *, is_listed: bool) -> Iterator[Input]:
    """is_listed: a path as it is, which may be missing, to be reported as an input that cannot be read."""
    path = Path(text)
    if _URL.match(text):
        raise UserError(f"{text}: URLs are not supported; download the file and pass its path")
    if os.path.lexists(path):
        yield from _expand_path(path, out, skipped)
    elif is_listed:
        yield Input(path, "image")
    elif text.isdecimal():
        yield Input(path, "camera")
    elif glob.has_magic(text):
        matches = sorted(Path(match) for match in glob.glob(text, recursive=True))  # noqa: PTH207  ** and absolute patterns
        outside = [match for match in matches if not _is_inside(match, out)]
        if not outside:
            where = " outside the output folder; choose another --out folder" if matches else ""
            raise UserError(f"{text}: no file matches this pattern{where}")
        for match in outside:
            if match.is_file() or not match.is_dir():
                yield from _classify_by_suffix(match, skipped)
    else:
        raise UserError(f"{text}: no such file or folder")


def _expand_path(path: Path, out: Path, skipped: Counter[str]) -> Iterator[Input]:
    if path.is_dir():
        found = list(_walk_folder(path, out, skipped))
        if not found and _is_inside(path, out):
            raise UserError(f"{path}: lies in the output folder, which is not searched; choose another --out folder")
        if not found:
            raise UserError(
                f"{path}: no images or videos in this folder; expected {', '.join(sorted(IMAGE_SUFFIXES))} …"
            )
        yield from found
    elif path.exists() and not path.is_file():
        raise UserError(f"{path}: expected a file or a folder, got a device or a pipe")
    else:  # a file given by name is used whatever its suffix
        yield Input(path, "video" if path.suffix.lower() in VIDEO_SUFFIXES else "image")


def _walk_folder(folder: Path, out: Path, skipped: Counter[str]) -> Iterator[Input]:
    def stop(error: OSError) -> None:
        raise UserError(f"{error.filename}: the folder cannot be read ({error.strerror})")

    for parent, folders, files in os.walk(folder, onerror=stop):
        folders[:] = sorted(name for name in folders if name[0] != "." and not _is_inside(Path(parent, name), out))
        for name in sorted(files):
            if not _is_inside(Path(parent, name), out):
                yield from _classify_by_suffix(Path(parent, name), skipped)


def _classify_by_suffix(path: Path, skipped: Counter[str]) -> Iterator[Input]:
    """Yield a file found in a folder if its name is that of an image or a video."""
    suffix = path.suffix.lower()
    if path.exists() and not path.is_file():
        skipped["not a file"] += 1
    elif suffix in IMAGE_SUFFIXES:
        yield Input(path, "image")
    elif suffix in VIDEO_SUFFIXES:
        yield Input(path, "video")
    else:
        skipped[suffix or "no suffix"] += 1


def _is_inside(path: Path, folder: Path) -> bool:
    """Return whether path is inside folder, which is resolved."""
    return path.resolve().is_relative_to(folder)
