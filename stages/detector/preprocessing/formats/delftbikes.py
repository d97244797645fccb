"""Reader for the JSON of DelftBikes (format `parts`): each image shows one object, its boxes are parts with a state.

    train_annotations.json      every *.json of the folder or of annotations/
    train/0.jpg …               or in the folder itself, images/, or a folder named like the JSON file

    {"0.jpg": {"image": {"channels": 3, "height": 400, "width": 600},
               "parts": {"front wheel": {
                 "part_name": "front wheel",            label; defaults to the key
                 "object_state": "intact",              or object_state_class; null or missing: no state
                 "trust": 0.9,                          optional
                 "absolute_bounding_box": {"left": 10, "top": 20, "width": 100, "height": 90}}}}}

Some copies have an integer in object_state_class and a name in object_state; the name is used.
Boxes are in pixels. A split in the file's name (train, val, test) is the predefined split of its images.
A part that cannot be read is dropped and counted.
Source: Kayhan, Vredebregt and van Gemert, "Hallucination in object detection: a study in visual part
verification", 2021.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from detector.core.errors import UserError
from detector.preprocessing.findings import FindingLog
from detector.preprocessing.formats.fields import (
    Record,
    build_mismatch_error,
    check_mapping,
    check_string,
    parse_image_size,
    read_mapping,
    read_number,
    read_optional,
    read_string,
)
from detector.preprocessing.formats.files import (
    find_image,
    find_json_groups,
    infer_annotation_split,
    list_image_folders,
    load_json_groups,
    make_dataset_relative,
)
from detector.preprocessing.formats.image_lookup import locate_images
from detector.preprocessing.raw_annotations import RawBox, RawImage

_STATE_KEYS = ("object_state", "object_state_class")


def read_delftbikes(folder: Path, log: FindingLog) -> Iterator[RawImage]:
    """Yield the images, sorted by annotation file and then by image name."""
    yield from locate_images(folder, _read_files(folder, log), log)


def _read_files(folder: Path, log: FindingLog) -> Iterator[RawImage]:
    for path, content in load_json_groups(folder, find_json_groups(folder), _find_format_problem, log):
        name = make_dataset_relative(folder, path)
        split = infer_annotation_split(folder, path)
        places = list_image_folders(folder, path)
        for image_name in sorted(content):
            where = f"{name}: {image_name}"
            image = check_mapping(where, content[image_name])
            boxes = tuple(_parse_boxes(where, read_mapping(where, image, "parts"), log))
            properties = read_optional(read_mapping, where, image, "image") or {}
            width = read_optional(read_number, where, properties, "width")
            height = read_optional(read_number, where, properties, "height")
            size = parse_image_size(width, height)
            yield RawImage(find_image(folder, image_name, places), where, boxes, split=split, size=size)


def _find_format_problem(content: Any) -> str | None:
    """Why a JSON file is not of this format, or None; one image with parts is enough."""
    if isinstance(content, dict) and any(isinstance(v, dict) and "parts" in v for v in content.values()):
        return None
    return 'no image with "parts"'


def _parse_boxes(where: str, parts: Record, log: FindingLog) -> Iterator[RawBox]:
    for number, (key, part) in enumerate(parts.items(), start=1):
        place = f"{where}: parts.{key}"
        try:
            yield _parse_box(place, key, check_mapping(place, part))
        except UserError as error:
            log.drop_box(where, number, error)


def _parse_box(where: str, key: str, part: Record) -> RawBox:
    label = key if part.get("part_name") is None else part["part_name"]
    place = f"{where}: absolute_bounding_box"
    box_ltwh = read_mapping(where, part, "absolute_bounding_box")
    left, top = read_number(place, box_ltwh, "left"), read_number(place, box_ltwh, "top")
    width, height = read_number(place, box_ltwh, "width"), read_number(place, box_ltwh, "height")
    return RawBox(
        label=check_string(f"{where}: part_name", label),
        xyxy=(left, top, left + width, top + height),
        state=_parse_state(where, part),
        trust=read_optional(read_number, where, part, "trust"),
    )


def _parse_state(where: str, part: Record) -> str | None:
    given = [key for key in _STATE_KEYS if part.get(key) is not None]
    named = [key for key in given if isinstance(part[key], str)]
    if named:
        return read_string(where, part, named[0])
    if given:
        raise build_mismatch_error(f"{where}: {given[0]}", part[given[0]], "the state's name, in object_state")
    return None
