"""Reader for JSON Lines: one image per line, boxes as fractions of the image size.

    dataset.jsonl        or the only *.jsonl; or one per split, such as train.jsonl, val.jsonl and test.jsonl
    data/0001.jpg …      images at the paths given in the lines

    {"image_path": "data/0001.jpg",                    relative to the dataset folder or its data/, or absolute
     "bounding_box_annotations": [                     required; empty for an image without objects
       {"annotation_label": "wheel",
        "x_min_normalized": 0.1, "y_min_normalized": 0.2, "x_max_normalized": 0.3, "y_max_normalized": 0.4,
        "state": "damaged", "trust": 0.9}],            both optional or null
     "classification_annotations": [{"annotation_label": "sequence_17--frame_3"}],     optional: sequence 17
     "split": "train"}                                 optional: train, val or test; counts before the file's name

This is the project's own format, easy to stream and to diff; unknown keys are ignored. A box that cannot be read is
dropped and counted. With one file per split, an image may also lie in a folder of the split (train/, images/train/, …),
and the files may lie in folders named after their split.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
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
from detector.preprocessing.formats.files import (
    MAX_JSON_BYTES,
    decode_utf8,
    find_image,
    infer_annotation_split,
    is_dir,
    list_image_folders,
    make_dataset_relative,
    open_annotations,
)
from detector.preprocessing.formats.image_lookup import locate_images
from detector.preprocessing.raw_annotations import RawBox, RawImage

_SEQUENCE_LABEL = re.compile(r"sequence_(.+?)--")
_SPLITS = ("train", "val", "test")


def read_jsonl(folder: Path, log: FindingLog) -> Iterator[RawImage]:
    """Yield the images in the order of the files and their lines; blank lines are skipped."""
    yield from locate_images(folder, _read_files(folder, log), log)


def _read_files(folder: Path, log: FindingLog) -> Iterator[RawImage]:
    files = find_dataset_files(folder)
    for path in files:
        split = infer_annotation_split(folder, path) if path.name != "dataset.jsonl" or len(files) > 1 else None
        places = [path.parent, folder, folder / "data", *(list_image_folders(folder, path) if split else ())]
        yield from read_jsonl_file(folder, path, log, split, places)


def read_jsonl_file(
    folder: Path, path: Path, log: FindingLog, split: str | None = None, places: Sequence[Path] = ()
) -> Iterator[RawImage]:
    """Yield the images of one file.

    split: of images whose line names none. places: folders that paths may be relative to, instead of `folder`.
    """
    open_annotations(folder, path, log, MAX_JSON_BYTES)
    for where, record in read_records(path, make_dataset_relative(folder, path)):
        yield RawImage(
            path=find_image(folder, read_path(where, record, "image_path"), places or [folder]),
            where=where,
            boxes=tuple(_parse_boxes(where, record, log)),
            normalized=True,
            sequence=_parse_sequence(where, record),
            split=read_optional(_parse_split, where, record, "split") or split,
        )


def read_records(path: Path, name: str) -> Iterator[tuple[str, Record]]:
    """Yield the place and the object of each line that is not blank. Raises UserError for an invalid line."""
    for line_number, line in _read_lines(path):
        source = decode_utf8(line, name, line_number)
        if source.strip():
            where = f"{name}:{line_number}"
            yield where, check_mapping(where, parse_json(source, name, line_number))


def find_dataset_files(folder: Path) -> list[Path]:
    """dataset.jsonl, the only *.jsonl, or one per split: train, then val, then test.

    Raises UserError when there is none, or when their names do not say which counts.
    """
    paths = _list_jsonl(folder)
    if not paths:
        paths = [path for inner in sorted(folder.glob("*")) if is_dir(inner) for path in _list_jsonl(inner)]
        paths = [path for path in paths if infer_annotation_split(folder, path)]
    named = [path for path in paths if path == folder / "dataset.jsonl"] or paths
    splits = {infer_annotation_split(folder, path): path for path in named}
    if len(named) == 1 or (len(splits) == len(named) and None not in splits and named):
        return [splits[split] for split in (*_SPLITS, None) if split in splits]
    found = ", ".join(make_dataset_relative(folder, path) for path in paths) or "no *.jsonl"
    raise UserError(
        f"{folder}: found {found}, expected dataset.jsonl, exactly one *.jsonl, or one for each of train, val and test"
    )


def _list_jsonl(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.jsonl") if not is_hidden_name(path.name))


def _read_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        with path.open("rb") as file:
            yield from enumerate(file, start=1)
    except OSError as error:
        raise UserError(f"{path.name}: cannot be read: {error.strerror}") from error


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
