"""Reader for JSON Lines: one image per line, boxes as fractions of the image size.

    dataset.jsonl        or the only *.jsonl of the folder
    data/0001.jpg …      images at the paths given in the lines

    {"image_path": "data/0001.jpg",                    relative to the dataset folder, or absolute
     "bounding_box_annotations": [                     required; empty for an image without objects
       {"annotation_label": "wheel",
        "x_min_normalized": 0.1, "y_min_normalized": 0.2, "x_max_normalized": 0.3, "y_max_normalized": 0.4,
        "state": "damaged", "trust": 0.9}],            both optional or null
     "classification_annotations": [{"annotation_label": "sequence_17--frame_3"}],     optional: sequence 17
     "split": "train"}                                 optional: train, val or test

This is the project's own format, easy to stream and to diff; unknown keys are ignored. A box that cannot be read is
dropped and counted.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from detector.core.errors import UserError
from detector.preprocessing.dataset_folder import is_hidden_name
from detector.preprocessing.findings import FindingLog
from detector.preprocessing.formats.fields import (
    Record,
    build_mismatch_error,
    check_mapping,
    parse_json,
    read_list,
    read_number,
    read_objects,
    read_optional,
    read_path,
    read_string,
)
from detector.preprocessing.formats.files import MAX_JSON_BYTES, decode_utf8, find_image, open_annotations
from detector.preprocessing.raw_annotations import RawBox, RawImage

_SEQUENCE_LABEL = re.compile(r"sequence_(.+?)--")
_SPLITS = ("train", "val", "test")


def read_jsonl(folder: Path, log: FindingLog) -> Iterator[RawImage]:
    """Yield the images in the order of the lines; blank lines are skipped."""
    yield from read_jsonl_file(folder, find_dataset_file(folder), log)


def read_jsonl_file(folder: Path, path: Path, log: FindingLog) -> Iterator[RawImage]:
    """Yield the images of one file; their paths are relative to `folder`."""
    open_annotations(folder, path, log, MAX_JSON_BYTES)
    for where, record in read_records(path):
        yield _parse_image(folder, where, record, log)


def read_records(path: Path) -> Iterator[tuple[str, Record]]:
    """Yield the place and the object of each line that is not blank. Raises UserError for an invalid line."""
    for line_number, line in _read_lines(path):
        source = decode_utf8(line, path.name, line_number)
        if source.strip():
            where = f"{path.name}:{line_number}"
            yield where, check_mapping(where, parse_json(source, path.name, line_number))


def find_dataset_file(folder: Path) -> Path:
    """dataset.jsonl, or the only *.jsonl. Raises UserError when there is none or more than one."""
    paths = sorted(path for path in folder.glob("*.jsonl") if not is_hidden_name(path.name))
    named = [path for path in paths if path.name == "dataset.jsonl"] or paths
    if len(named) == 1:
        return named[0]
    found = ", ".join(path.name for path in paths) or "no *.jsonl"
    raise UserError(f"{folder}: found {found}, expected dataset.jsonl or exactly one *.jsonl")


def _read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            yield from enumerate(file, start=1)
    except OSError as error:
        raise UserError(f"{path.name}: cannot be read: {error.strerror}") from error


def _parse_image(folder: Path, where: str, record: Record, log: FindingLog) -> RawImage:
    return RawImage(
        path=find_image(folder, read_path(where, record, "image_path"), [folder]),
        where=where,
        boxes=tuple(_parse_boxes(where, record, log)),
        normalized=True,
        sequence=_parse_sequence(where, record),
        split=read_optional(_parse_split, where, record, "split"),
    )


def _parse_boxes(where: str, record: Record, log: FindingLog) -> Iterator[RawBox]:
    key = "bounding_box_annotations"
    for number, box in enumerate(read_list(where, record, key), start=1):
        place = f"{where}: {key}[{number - 1}]"
        try:
            yield _parse_box(place, check_mapping(place, box))
        except UserError as error:
            log.drop_box(where, number, error)


def _parse_box(where: str, record: Record) -> RawBox:
    return RawBox(
        label=read_string(where, record, "annotation_label"),
        xyxy=(
            read_number(where, record, "x_min_normalized"),
            read_number(where, record, "y_min_normalized"),
            read_number(where, record, "x_max_normalized"),
            read_number(where, record, "y_max_normalized"),
        ),
        state=read_optional(read_string, where, record, "state"),
        trust=read_optional(read_number, where, record, "trust"),
    )


def _parse_sequence(where: str, record: Record) -> str | None:
    key = "classification_annotations"
    if record.get(key) is None:
        return None
    labels = [read_string(place, label, "annotation_label") for place, label in read_objects(where, record, key)]
    names = dict.fromkeys(match[1] for label in labels if (match := _SEQUENCE_LABEL.match(label)))
    if len(names) > 1:
        raise build_mismatch_error(f"{where}: {key}", list(names), "at most one sequence per image")
    return next(iter(names), None)


def _parse_split(where: str, record: Record, key: str) -> str:
    value = read_string(where, record, key)
    if value not in _SPLITS:
        raise build_mismatch_error(f"{where}: {key}", value, "train, val or test")
    return value
