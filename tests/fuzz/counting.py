"""Count what lies in a dataset folder and in its annotations, with nothing of the library under test."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

_SYSTEM = ("thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "$recycle.bin")
LINE_OF_INDEX = 28  # bytes


class Contents(NamedTuple):
    """files: entries that are no folders; has_links: whether a link leads to a folder, which may hold more.

    images, boxes: numbers that the annotations list; None: not known. pictures: image files that are not hidden.
    members: number of images in shards.
    """

    files: list[Path]
    has_links: bool
    images: int | None
    boxes: int
    pictures: list[Path]
    members: int


def count_contents(folder: Path, format_: str, skipped: set[str], again: list[str]) -> Contents:
    """Count a dataset that the library accepts.

    skipped: annotation files that it says it has not used; again: those that count once more for another image.
    """
    paths, has_links = _list_files(folder)
    names = {os.path.relpath(path, folder): path for path in paths}
    used = {
        name: path for name, path in names.items() if path.is_file() and name not in skipped and not _is_hidden(name)
    }
    images, boxes = _COUNTERS[format_](used)
    boxes += sum(_COUNTERS[format_]({name: names[name]})[1] for name in again)
    pictures = [path for name, path in used.items() if name.lower().endswith((".png", ".jpg", ".bmp", ".webp"))]
    indexes = folder.glob("shard-*.idx") if format_ == "archive" else ()
    members = sum(path.stat().st_size // LINE_OF_INDEX for path in indexes)
    return Contents(paths, has_links, images, boxes, pictures, members)


def _list_files(folder: Path) -> tuple[list[Path], bool]:
    paths, has_links, seen = [], False, {folder.resolve()}
    for place, folders, files in os.walk(folder, followlinks=True):
        for name in list(folders):
            path = Path(place, name)
            has_links = has_links or path.is_symlink()
            if path.is_symlink() and _is_hidden(os.path.relpath(path, folder)):
                folders.remove(name)
                paths.append(path)
            elif path.resolve() in seen or (path.is_symlink() and folder.resolve().is_relative_to(path.resolve())):
                folders.remove(name)
            seen.add(path.resolve())
        paths += [Path(place, name) for name in files]
    return paths, has_links


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part.lower() in _SYSTEM for part in name.split("/"))


def _read(path: Path) -> str:
    data = path.read_bytes()
    return data.decode("utf-8-sig")


def _records(files: dict[str, Path]) -> Iterator[dict[str, Any]]:
    for path in files.values():
        for line in path.read_bytes().split(b"\n"):
            text = line.decode("utf-8-sig")
            if text.strip():
                yield json.loads(text)


def _count_jsonl(files: dict[str, Path]) -> tuple[int, int]:
    found = {name: path for name, path in files.items() if name.endswith(".jsonl")}
    records = list(_records(found))
    return len(records), sum(len(record["bounding_box_annotations"]) for record in records)


def _load_json(files: dict[str, Path]) -> Iterator[dict[str, Any]]:
    for name, path in files.items():
        if name.lower().endswith(".json"):
            yield json.loads(_read(path))


def _count_parts(files: dict[str, Path]) -> tuple[int, int]:
    entries = [entry for content in _load_json(files) for entry in content.values()]
    return len(entries), sum(len(entry["parts"]) for entry in entries if isinstance(entry, dict) and "parts" in entry)


def _count_coco(files: dict[str, Path]) -> tuple[int, int]:
    contents = list(_load_json(files))
    return sum(len(one["images"]) for one in contents), sum(len(one["annotations"]) for one in contents)


def _count_voc(files: dict[str, Path]) -> tuple[int, int]:
    roots = [ElementTree.fromstring(path.read_bytes()) for name, path in files.items() if name.lower().endswith(".xml")]
    return len(roots), sum(child.tag == "object" for root in roots for child in root)


def _count_yolo(files: dict[str, Path]) -> tuple[None, int]:
    """Lines of label files; a list of images is no label file."""
    texts = [
        _read(path)
        for name, path in files.items()
        if name.lower().endswith(".txt") and "labels" in name.split("/")[:-1]
    ]
    return None, sum(bool(line.strip()) for text in texts for line in text.split("\n"))


_COUNTERS = {
    "jsonl": _count_jsonl, "parts": _count_parts, "coco": _count_coco, "voc": _count_voc, "yolo": _count_yolo,
    "archive": _count_jsonl,
}  # fmt: skip
