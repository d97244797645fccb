"""Reader of DelftBikes' JSON: each image is one object, its boxes are parts that have a state.

    train_annotations.json      every *.json of the folder, or of annotations/
    train/0.jpg …               also in the folder itself, images/, or a folder named like the JSON file

    {"0.jpg": {"image": {"channels": 3, "height": 400, "width": 600},
               "parts": {"front wheel": {
                 "part_name": "front wheel",            the label; the key when it is missing
                 "object_state": "intact",              or object_state_class; null or missing: no state
                 "trust": 0.9,                          optional
                 "absolute_bounding_box": {"left": 10, "top": 20, "width": 100, "height": 90}}}}}

In some copies object_state_class is an integer beside a name in object_state: the name is taken.
Boxes are pixels. A split word in the file's name (train, val, test) is the given split of its images.
Source: Kayhan, Vredebregt and van Gemert, "Hallucination in object detection: a study in visual part
verification", 2021.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from detector.preprocessing.formats.fields import (
    Record,
    as_mapping,
    as_text,
    known_size,
    mapping,
    mismatch,
    number,
    optional,
    text,
)
from detector.preprocessing.formats.files import (
    annotation_split,
    dataset_path,
    find_image,
    image_places,
    json_groups,
    load_json_group,
)
from detector.preprocessing.raw_annotations import RawBox, RawImage

_STATE_KEYS = ("object_state", "object_state_class")


def read(folder: Path, notes: Counter[str]) -> Iterator[RawImage]:
    """Yield the images, sorted by annotation file and then by image name."""
    for path, content in load_json_group(folder, json_groups(folder), _problem, notes):
        name = dataset_path(folder, path)
        split = annotation_split(folder, path)
        places = image_places(folder, path)
        for image_name in sorted(content):
            where = f"{name}: {as_text(f'{name}: image name', image_name)}"
            image = as_mapping(where, content[image_name])
            boxes = tuple(
                _box(f"{where}: parts.{key}", key, as_mapping(f"{where}: parts.{key}", part))
                for key, part in mapping(where, image, "parts").items()
            )
            of_image = optional(mapping, where, image, "image") or {}
            size = known_size(optional(number, where, of_image, "width"), optional(number, where, of_image, "height"))
            yield RawImage(find_image(folder, image_name, places), where, boxes, split=split, size=size)


def _problem(content: Any) -> str | None:
    """Why a JSON file is no annotation file of this format; files with one wrong image among others are."""
    if isinstance(content, dict) and any(isinstance(v, dict) and "parts" in v for v in content.values()):
        return None
    return 'no image with "parts"'


def _box(where: str, key: str, part: Record) -> RawBox:
    label = key if part.get("part_name") is None else part["part_name"]
    place = f"{where}: absolute_bounding_box"
    box_ltwh = mapping(where, part, "absolute_bounding_box")
    left, top = number(place, box_ltwh, "left"), number(place, box_ltwh, "top")
    width, height = number(place, box_ltwh, "width"), number(place, box_ltwh, "height")
    return RawBox(
        label=as_text(f"{where}: part_name", label),
        xyxy=(left, top, left + width, top + height),
        state=_state(where, part),
        trust=optional(number, where, part, "trust"),
    )


def _state(where: str, part: Record) -> str | None:
    given = [key for key in _STATE_KEYS if part.get(key) is not None]
    named = [key for key in given if isinstance(part[key], str)]
    if named:
        return text(where, part, named[0])
    if given:
        raise mismatch(f"{where}: {given[0]}", part[given[0]], "the state's name, in object_state")
    return None
