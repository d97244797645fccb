"""What lies in a dataset folder: every file is used, or counted with the reason why it is passed over."""

from __future__ import annotations

import functools
import os
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from detector.core.images import IMAGE_SUFFIXES
from detector.preprocessing.findings import FileCounts, Finding, FindingKind, FindingLog

# Files that an operating system leaves in folders, in lower case; names that begin with a dot are hidden anyway.
_SYSTEM_NAMES = ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "$recycle.bin")
_LISTED = (  # the others are only counted: there may be one per image
    FindingKind.SKIPPED_ANNOTATION_FILE,
    FindingKind.UNUSED_IMAGE,
    FindingKind.SPECIAL_FILE,
    FindingKind.BROKEN_LINK,
    FindingKind.SKIPPED_FOLDER,
)


class FolderEntry(NamedTuple):
    """A file, or a folder that was not looked into. problem: why it is passed over; None for an ordinary file."""

    path: str
    problem: FindingKind | None


def is_hidden_name(name: str) -> bool:
    """Whether a file or folder is hidden, or one that an operating system or a notebook leaves behind."""
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


def walk_folder(root: Path) -> Iterator[FolderEntry]:
    """Yield every file under `root`, in no particular order.

    Links to folders are followed after all real folders, each folder once and none that contains `root`.
    """
    seen = {_identify(place) for place in root.resolve().parents}
    folders, links = [(str(root), False)], list[tuple[str, bool]]()
    while folders or links:
        folder, hidden = folders.pop() if folders else links.pop(0)
        try:
            identity = _identify(folder)
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError:  # without permission to read, or links in a circle
            identity, entries = None, []
        if identity is None or identity in seen:
            yield FolderEntry(folder, FindingKind.SKIPPED_FOLDER)
            continue
        seen.add(identity)
        for entry in entries:
            inside = hidden or is_hidden_name(entry.name)
            if _is_dir(entry) and not (inside and entry.is_symlink()):
                (links if entry.is_symlink() else folders).append((entry.path, inside))
            else:
                yield FolderEntry(entry.path, FindingKind.HIDDEN_FILE if inside else _find_problem(entry))


def find_files(root: Path, suffixes: Collection[str]) -> list[Path]:
    """The files under `root` with one of these suffixes in lower or upper case, sorted; hidden ones are left out.

    A link that leads nowhere is among them, so that it is reported as a missing file.
    """
    usable = (None, FindingKind.BROKEN_LINK)
    return sorted(Path(path) for path, problem in walk_folder(root) if problem in usable and _suffix(path) in suffixes)


def count_files(folder: Path, images: Iterable[str], annotation_suffix: str, log: FindingLog) -> FileCounts:
    """Count the files of a dataset folder, and log those that are neither an image of the dataset nor were read.

    images: paths of the dataset's images. annotation_suffix: of the format's annotation files.
    """
    find_real = functools.cache(os.path.realpath)  # of folders only: DVC's links to its cache share one file

    def identify(path: str) -> str:
        parent, name = os.path.split(path)
        return os.path.join(find_real(parent), name)  # noqa: PTH118  a million paths

    used = {identify(path) for path in images if "\0" not in path}  # no file has such a name
    read = {identify(path) for path in log.annotation_files}
    skipped = {finding.where for finding in log.listed if finding.kind is FindingKind.SKIPPED_ANNOTATION_FILE}
    found = used_count = read_count = 0
    for path, problem in walk_folder(folder):
        found += 1
        key, name = identify(path), os.path.relpath(path, folder)
        if key in used:
            used_count += 1
        elif key in read and name not in skipped:
            read_count += 1
        elif name not in skipped:
            kind = problem or _classify(name, annotation_suffix)
            if kind in _LISTED:
                log.listed.append(Finding(kind, name))
            else:
                log.unlisted[kind] += 1
    return FileCounts(found, used_count, read_count, found - used_count - read_count)


def _classify(path: str, annotation_suffix: str) -> FindingKind:
    if _suffix(path) == annotation_suffix:
        return FindingKind.SKIPPED_ANNOTATION_FILE
    return FindingKind.UNUSED_IMAGE if _suffix(path) in IMAGE_SUFFIXES else FindingKind.UNUSED_FILE


def _identify(path: str | Path) -> tuple[int, int]:
    status = Path(path).stat()
    return status.st_dev, status.st_ino


def _is_dir(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # links in a circle
        return False


def _find_problem(entry: os.DirEntry[str]) -> FindingKind | None:
    try:
        if entry.is_file():
            return None
    except OSError:
        return FindingKind.BROKEN_LINK
    is_broken = entry.is_symlink() and not os.path.exists(entry.path)  # noqa: PTH110
    return FindingKind.BROKEN_LINK if is_broken else FindingKind.SPECIAL_FILE


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()  # noqa: PTH122
