"""Reader of JSON Lines: one image a line, boxes as shares of the image's size.

    dataset.jsonl        (or the only *.jsonl of the folder)
    data/0001.jpg …      anywhere; the lines say where

    {"image_path": "data/0001.jpg",                    relative to the dataset folder, or absolute
     "bounding_box_annotations": [                     required; empty for an image without objects
       {"annotation_label": "wheel",
        "x_min_normalized": 0.1, "y_min_normalized": 0.2, "x_max_normalized": 0.3, "y_max_normalized": 0.4,
        "state": "damaged", "trust": 0.9}],            both optional, may be null
     "classification_annotations": [{"annotation_label": "sequence_17--frame_3"}],     optional: sequence 17
     "split": "train"}                                 optional: train, val or test

This is the project's own format, one that streams and diffs well; unknown keys are ignored.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from detector.core.errors import UserError
from detector.preprocessing.formats.fields import (
    Record,
    as_mapping,
    mismatch,
    number,
    objects,
    optional,
    parse_json,
    text,
)
from detector.preprocessing.formats.files import dataset_path, decode
from detector.preprocessing.raw_annotations import RawBox, RawImage

_SEQUENCE = re.compile(r"sequence_(.+?)--")
_SPLITS = ("train", "val", "test")


def read(folder: Path, notes: Counter[str]) -> Iterator[RawImage]:
    """Yield the images in the order of the lines; blank lines are skipped."""
    yield from read_file(folder, dataset_file(folder))


def read_file(folder: Path, path: Path) -> Iterator[RawImage]:
    """The images of one file of lines; their paths are relative to `folder`."""
    for where, record in records(path):
        yield _image(folder, where, record)


def records(path: Path) -> Iterator[tuple[str, Record]]:
    """The place and the object of each line that is not blank. Raises UserError naming a line that is none."""
    for line_number, line in _lines(path):
        source = decode(line, path.name, line_number)
        if source.strip():
            where = f"{path.name}:{line_number}"
            yield where, as_mapping(where, parse_json(source, path.name, line_number))


def dataset_file(folder: Path) -> Path:
    """dataset.jsonl, or the only *.jsonl. Raises UserError when there is none, or more."""
    paths = sorted(folder.glob("*.jsonl"))
    named = [path for path in paths if path.name == "dataset.jsonl"] or paths
    if len(named) == 1:
        return named[0]
    found = ", ".join(path.name for path in paths) or "no *.jsonl"
    raise UserError(f"{folder}: found {found}, expected dataset.jsonl (or only one *.jsonl)")


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            yield from enumerate(file, start=1)
    except OSError as error:
        raise UserError(f"{path.name}: cannot be read: {error.strerror}") from error


def _image(folder: Path, where: str, record: Record) -> RawImage:
    return RawImage(
        path=dataset_path(folder, text(where, record, "image_path")),
        where=where,
        boxes=tuple(_box(place, box) for place, box in objects(where, record, "bounding_box_annotations")),
        normalized=True,
        sequence=_sequence(where, record),
        split=optional(_split, where, record, "split"),
    )


def _box(where: str, record: Record) -> RawBox:
    return RawBox(
        label=text(where, record, "annotation_label"),
        xyxy=(
            number(where, record, "x_min_normalized"),
            number(where, record, "y_min_normalized"),
            number(where, record, "x_max_normalized"),
            number(where, record, "y_max_normalized"),
        ),
        state=optional(text, where, record, "state"),
        trust=optional(number, where, record, "trust"),
    )


def _sequence(where: str, record: Record) -> str | None:
    key = "classification_annotations"
    if record.get(key) is None:
        return None
    labels = [text(place, label, "annotation_label") for place, label in objects(where, record, key)]
    names = dict.fromkeys(match[1] for label in labels if (match := _SEQUENCE.match(label)))
    if len(names) > 1:
        raise mismatch(f"{where}: {key}", list(names), "at most one sequence for an image")
    return next(iter(names), None)


def _split(where: str, record: Record, key: str) -> str:
    value = text(where, record, key)
    if value not in _SPLITS:
        raise mismatch(f"{where}: {key}", value, "train, val or test")
    return value
