"""The manifest: one usable image a line, with boxes in pixels of the image that the line points at."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

SPLITS = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class CleanBox:
    """A box inside its image: xyxy in pixels, 0 <= left < right <= width and so on."""

    label: str
    xyxy: tuple[float, float, float, float]
    state: str | None = None
    trust: float | None = None
    iscrowd: bool = False


@dataclass(frozen=True, slots=True)
class CleanImage:
    """A readable, upright, 8-bit RGB image.

    image: path relative to the repository (absolute only when the dataset lies outside).
    source: the file in the raw dataset; the same as `image` unless it had to be changed.
    content: start of the SHA-256 of the source's bytes: the image's identity whatever its name.
    group: `image` of the first near-duplicate; the image's own when there is none.
    sequence, split: as the dataset gives them.
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
    """Names in the order of their ids, which start at 1."""

    classes: list[str]
    states: list[str]


def write_manifest(path: Path, images: Iterable[CleanImage]) -> None:
    """One JSON object a line, in the order given."""
    with path.open("w", encoding="utf-8") as file:
        for image in images:
            file.write(json.dumps(image, default=_record, ensure_ascii=False, separators=(",", ":")) + "\n")


def _record(item: CleanImage | CleanBox) -> dict[str, object]:
    return {name: getattr(item, name) for name in item.__slots__}  # `asdict` would be four times as slow


def read_manifest(path: Path) -> Iterator[CleanImage]:
    """The images of a manifest that preprocess wrote."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            yield _image(json.loads(line))


def _image(record: dict[str, Any]) -> CleanImage:
    boxes = tuple(CleanBox(**{**box, "xyxy": tuple(box["xyxy"])}) for box in record.pop("boxes"))
    return CleanImage(boxes=boxes, **record)


def read_outlines(path: Path) -> Iterator[CleanImage]:
    """As `read_manifest`, but boxes have only their label and state: all of one kind are one object, placed nowhere.

    A million such images take a third of a gigabyte, instead of three.
    """
    kinds: dict[tuple[str, str | None], CleanBox] = {}
    with path.open(encoding="utf-8") as file:
        for line in file:
            record = json.loads(line)
            pairs = [(box["label"], box["state"]) for box in record.pop("boxes")]
            boxes = tuple(kinds.setdefault(pair, CleanBox(pair[0], (0.0, 0.0, 0.0, 0.0), pair[1])) for pair in pairs)
            same = {name: record["image"] for name in ("source", "group") if record[name] == record["image"]}
            yield CleanImage(**record | same, boxes=boxes)


class Place(NamedTuple):
    """Where an image stands in a manifest, in bytes, and what links it with others."""

    offset: int
    group: str
    sequence: str | None


def read_places(path: Path) -> dict[str, Place]:
    """Of every image, by its path."""
    places = {}
    with path.open("rb") as file:
        offset = 0
        for line in file:
            record = json.loads(line)
            name = record["image"]
            places[name] = Place(offset, name if record["group"] == name else record["group"], record["sequence"])
            offset += len(line)
    return places


def read_images_at(path: Path, places: Iterable[Place]) -> Iterator[CleanImage]:
    """The images that stand there, one in memory at a time."""
    with path.open("rb") as file:
        for place in places:
            file.seek(place.offset)
            yield _image(json.loads(file.readline()))


def write_labels(path: Path, labels: Labels) -> None:
    """Class and state names as JSON."""
    path.write_text(json.dumps(labels._asdict(), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def read_labels(path: Path) -> Labels:
    """What `write_labels` wrote."""
    return Labels(**json.loads(path.read_text(encoding="utf-8")))
