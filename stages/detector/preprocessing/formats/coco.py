"""Reader of COCO detection JSON, with an optional state on each annotation.

    annotations/instances_train2017.json …  with train2017/, images/train2017/, images/ …
    train/_annotations.coco.json …          with its images beside it (Roboflow's layout)
    annotations.json                        with images/

    {"images": [{"id": 1, "file_name": "0001.jpg"}],
     "categories": [{"id": 7, "name": "wheel"}],
     "states": [{"id": 0, "name": "intact"}],                    optional
     "annotations": [{"id": 1, "image_id": 1, "category_id": 7, "bbox": [left, top, width, height],
                      "iscrowd": 0,                              optional
                      "state": 0, "trust": 0.9}]}                optional; state: a name, or an id of "states"

The split comes from a word in the file's name, or else in the name of its folder inside the dataset.
Boxes are pixels. Segmentations and keypoints are kept out and counted. Beside instances_*.json,
the captions and keypoints files of the original download are left out, since they repeat its images.
Source: https://cocodataset.org/#format-data
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from detector.preprocessing.formats.fields import (
    Record,
    integer,
    known_size,
    mismatch,
    number,
    numbers,
    objects,
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


def read(folder: Path, notes: Counter[str]) -> Iterator[RawImage]:
    """Yield the images, sorted by annotation file and then by image id."""
    groups = [_instances_only(group, notes) for group in json_groups(folder)]
    for path, content in load_json_group(folder, groups, _problem, notes):
        name = dataset_path(folder, path)
        split = annotation_split(folder, path)
        places = image_places(folder, path)
        images = {id_: (where, image) for id_, where, image in _by_id(name, content, "images", "image")}
        boxes = _boxes(name, content, images.keys(), notes)
        for image_id in sorted(images):
            where, image = images[image_id]
            image_path = find_image(folder, text(where, image, "file_name"), places)
            size = known_size(optional(number, where, image, "width"), optional(number, where, image, "height"))
            yield RawImage(image_path, where, tuple(boxes.get(image_id, ())), split=split, size=size)


def _instances_only(group: list[Path], notes: Counter[str]) -> list[Path]:
    instances = [path for path in group if path.name.startswith("instances_")]
    if instances and len(instances) < len(group):
        notes["annotation files left out: not named instances_*.json"] += len(group) - len(instances)
    return instances or group


def _problem(content: Any) -> str | None:
    """Why a JSON file is no COCO detection file."""
    if not isinstance(content, dict):
        return "expected an object with images, annotations and categories"
    missing = [key for key in ("images", "annotations", "categories") if key not in content]
    return f'the key "{missing[0]}" is missing' if missing else None


def _by_id(name: str, content: Record, key: str, kind: str) -> Iterator[tuple[int, str, Record]]:
    """Yield (id, place, object) of a list; an id that stands twice is an error."""
    seen: set[int] = set()
    for place, record in objects(name, content, key):
        id_ = integer(place, record, "id")
        if id_ in seen:
            raise mismatch(f"{place}: id", id_, f"each {kind} to have its own id, and this one is taken")
        seen.add(id_)
        yield id_, f"{name}: {kind} {id_}", record


def _names(name: str, content: Record, key: str, kind: str) -> dict[int, str]:
    return {id_: text(where, record, "name") for id_, where, record in _by_id(name, content, key, kind)}


def _boxes(name: str, content: Record, image_ids: Collection[int], notes: Counter[str]) -> dict[int, list[RawBox]]:
    """The boxes of a file by image id, in the order of the file."""
    categories = _names(name, content, "categories", "category")
    states = {} if content.get("states") is None else _names(name, content, "states", "state")
    boxes: dict[int, list[RawBox]] = {}
    for _, where, annotation in _by_id(name, content, "annotations", "annotation"):
        image_id = integer(where, annotation, "image_id")
        if image_id not in image_ids:
            raise mismatch(f"{where}: image_id", image_id, "an id listed under images")
        boxes.setdefault(image_id, []).append(_box(where, annotation, categories, states))
        notes.update(_left_out(annotation))
    return boxes


def _box(where: str, annotation: Record, categories: dict[int, str], states: dict[int, str]) -> RawBox:
    category_id = integer(where, annotation, "category_id")
    if category_id not in categories:
        raise mismatch(f"{where}: category_id", category_id, "an id listed under categories")
    left, top, width, height = numbers(where, annotation, "bbox", 4)
    iscrowd = annotation.get("iscrowd")
    if iscrowd not in (None, 0, 1):
        raise mismatch(f"{where}: iscrowd", iscrowd, "0 or 1")
    return RawBox(
        label=categories[category_id],
        xyxy=(left, top, left + width, top + height),
        state=_state(where, annotation, states),
        trust=optional(number, where, annotation, "trust"),
        iscrowd=bool(iscrowd),
    )


def _state(where: str, annotation: Record, states: dict[int, str]) -> str | None:
    value = annotation.get("state")
    if value is None or isinstance(value, str):
        return optional(text, where, annotation, "state")
    state_id = integer(where, annotation, "state")
    if state_id not in states:
        raise mismatch(f"{where}: state", state_id, "a name, or an id listed under states")
    return states[state_id]


def _left_out(annotation: Record) -> Iterator[str]:
    """What an annotation carries beside its box, by reason for `notes`."""
    if annotation.get("segmentation"):
        yield "segmentations kept out"
    if annotation.get("num_keypoints", annotation.get("keypoints")):
        yield "keypoints kept out"
