"""The manifest: one usable image per line, with boxes in pixels of that image."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from detector.core.output_files import replace_file, write_text

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class CleanBox:
    """A box inside its image: xyxy in pixels, 0 <= left < right <= width, 0 <= top < bottom <= height."""

    label: str
    xyxy: tuple[float, float, float, float]
    state: str | None = None
    trust: float | None = None
    iscrowd: bool = False


@dataclass(frozen=True, slots=True)
class CleanImage:
    """A readable, upright, 8-bit RGB image.

    image: path relative to the repository (absolute only if the dataset lies outside).
    source: the file in the raw dataset; the same as `image` unless it had to be converted.
    content: start of the SHA-256 of the source's bytes; identifies the image under any name.
    group: `image` of the first near-duplicate; the image's own path if there is none.
    sequence, split: as given by the dataset.
    """

    image: str
    source: str
    content: str
    width: int
    height: int
    group: str
    sequence: str | None
    split: str | None
    boxes: tuple[CleanBox, ...]


class Labels(NamedTuple):
    """Class and state names in the order of their ids, which start at 1."""

    classes: list[str]
    states: list[str]


def write_manifest(path: Path, images: Iterable[CleanImage]) -> None:
    """Write one JSON object per line, in the order given."""
    with replace_file(path) as new, new.open("w", encoding="utf-8") as file:
        for image in images:
            file.write(json.dumps(image, default=_to_record, ensure_ascii=False, separators=(",", ":")) + "\n")


def _to_record(item: CleanImage | CleanBox) -> dict[str, object]:
    return {name: getattr(item, name) for name in item.__slots__}  # `asdict` would be four times as slow


def read_manifest(path: Path) -> Iterator[CleanImage]:
    """The images of a manifest written by preprocess."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield _parse_image(json.loads(line))


def _parse_image(record: dict[str, Any]) -> CleanImage:
    boxes = tuple(CleanBox(**{**box, "xyxy": tuple(box["xyxy"])}) for box in record.pop("boxes"))
    return CleanImage(boxes=boxes, **record)


def read_compact_manifest(path: Path) -> Iterator[CleanImage]:
    """Like `read_manifest`, but boxes have only a label and a state, and equal boxes share one object.

    A million such images take a third of a gigabyte instead of three.
    """
    shared: dict[tuple[str, str | None], CleanBox] = {}
    with path.open(encoding="utf-8") as file:
        for line in file:
            record = json.loads(line)
            pairs = [(box["label"], box["state"]) for box in record.pop("boxes")]
            boxes = tuple(shared.setdefault(pair, CleanBox(pair[0], (0.0, 0.0, 0.0, 0.0), pair[1])) for pair in pairs)
            same = {name: record["image"] for name in ("source", "group") if record[name] == record["image"]}
            yield CleanImage(**record | same, boxes=boxes)


class IndexEntry(NamedTuple):
    """Byte offset of an image's line in a manifest, and what links the image to others."""

    offset: int
    group: str
    sequence: str | None


def read_manifest_index(path: Path) -> dict[str, IndexEntry]:
    """The index entry of every image, by image path."""
    entries = {}
    with path.open("rb") as file:
        offset = 0
        for line in file:
            record = json.loads(line)
            name = record["image"]
            entries[name] = IndexEntry(offset, name if record["group"] == name else record["group"], record["sequence"])
            offset += len(line)
    return entries


def read_indexed_images(path: Path, entries: Iterable[IndexEntry]) -> Iterator[CleanImage]:
    """The images at these entries, one in memory at a time."""
    with path.open("rb") as file:
        for entry in entries:
            file.seek(entry.offset)
            yield _parse_image(json.loads(file.readline()))


def write_labels(path: Path, labels: Labels) -> None:
    """Write the class and state names as JSON."""
    write_text(path, json.dumps(labels._asdict(), indent=2, ensure_ascii=False) + "\n")


def read_labels(path: Path) -> Labels:
    """Read what `write_labels` wrote."""
    return Labels(**json.loads(path.read_text(encoding="utf-8")))
