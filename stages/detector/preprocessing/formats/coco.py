"""Reader for COCO detection JSON, with an optional state per annotation.

    annotations/instances_train2017.json …  with train2017/, images/train2017/, images/ …
    annotations/instances_default.json      with images/default/ (CVAT, Datumaro; any name of a subset)
    train/_annotations.coco.json …          with the images beside it (Roboflow)
    annotations.json                        with images/

    {"images": [{"id": 1, "file_name": "0001.jpg"}],
     "categories": [{"id": 7, "name": "wheel"}],
     "states": [{"id": 0, "name": "intact"}],                    optional
     "annotations": [{"id": 1, "image_id": 1, "category_id": 7, "bbox": [left, top, width, height],
                      "iscrowd": 0,                              optional
                      "state": 0, "trust": 0.9}]}                optional; state: a name, or an id of "states"

The split is inferred from the file's name, or else from the name of its folder inside the dataset.
All these places are read. Ids may be integers, 2.0, "2" or other text; those of annotations are not needed. An
annotation that cannot be read as a box of a listed image and category is dropped and counted. Boxes are in pixels.
Segmentations and keypoints are ignored and counted. Next to instances_*.json, the
captions and keypoints files of the original download are skipped, since they repeat its images.
Source: https://cocodataset.org/#format-data
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from detector.core.errors import UserError
from detector.preprocessing.findings import Finding, FindingKind, FindingLog
from detector.preprocessing.formats.fields import (
    Record,
    build_mismatch_error,
    check_mapping,
    parse_image_size,
    read_id,
    read_list,
    read_number,
    read_numbers,
    read_objects,
    read_optional,
    read_path,
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

Id = int | str


def read_coco(folder: Path, log: FindingLog) -> Iterator[RawImage]:
    """Yield the images, sorted by annotation file and then by image id."""
    yield from locate_images(folder, _read_files(folder, log), log)


def _read_files(folder: Path, log: FindingLog) -> Iterator[RawImage]:
    groups = [_select_instances_files(folder, group, log) for group in find_json_groups(folder)]
    for path, content in load_json_groups(folder, groups, _find_format_problem, log):
        name = make_dataset_relative(folder, path)
        split = infer_annotation_split(folder, path)
        places = list_image_folders(folder, path)
        images = {id_: (where, image) for id_, where, image in _read_by_id(name, content, "images", "image")}
        boxes = _read_boxes(name, content, images.keys(), log)
        for image_id in sorted(images, key=_sort_key):
            where, image = images[image_id]
            image_path = find_image(folder, read_path(where, image, "file_name"), places)
            width = read_optional(read_number, where, image, "width")
            height = read_optional(read_number, where, image, "height")
            size = parse_image_size(width, height)
            yield RawImage(image_path, where, tuple(boxes.get(image_id, ())), split=split, size=size)


def _select_instances_files(folder: Path, group: list[Path], log: FindingLog) -> list[Path]:
    """The instances_*.json of the group, if there are any; otherwise all files."""
    instances = [path for path in group if path.name.startswith("instances_")]
    if not instances:
        return group
    for path in group:
        if path not in instances:
            name = make_dataset_relative(folder, path)
            log.listed.append(Finding(FindingKind.SKIPPED_ANNOTATION_FILE, name, details="not named instances_*.json"))
    return instances


def _sort_key(id_: Id) -> tuple[bool, int, str]:
    return (True, 0, id_) if isinstance(id_, str) else (False, id_, "")


def _find_format_problem(content: Any) -> str | None:
    """Why a JSON file is not a COCO detection file, or None."""
    if not isinstance(content, dict):
        return "expected an object with images, annotations and categories"
    missing = [key for key in ("images", "annotations", "categories") if key not in content]
    return f'the key "{missing[0]}" is missing' if missing else None


def _read_by_id(name: str, content: Record, key: str, kind: str) -> Iterator[tuple[Id, str, Record]]:
    """Yield (id, place, object) of a list; a repeated id is an error."""
    seen: set[Id] = set()
    for place, record in read_objects(name, content, key):
        id_ = read_id(place, record, "id")
        if id_ in seen:
            raise build_mismatch_error(f"{place}: id", id_, f"a unique id per {kind}")
        seen.add(id_)
        yield id_, f"{name}: {kind} {id_}", record


def _read_names(name: str, content: Record, key: str, kind: str) -> dict[Id, str]:
    return {id_: read_string(where, record, "name") for id_, where, record in _read_by_id(name, content, key, kind)}


def _read_boxes(name: str, content: Record, image_ids: Collection[Id], log: FindingLog) -> dict[Id, list[RawBox]]:
    """The boxes of each image id, in the order of the file."""
    categories = _read_names(name, content, "categories", "category")
    for label in (label for label, count in Counter(categories.values()).items() if count > 1):
        log.listed.append(Finding(FindingKind.REPEATED_CLASS, f"{name}: categories", details=label))
    states = {} if content.get("states") is None else _read_names(name, content, "states", "state")
    boxes: dict[Id, list[RawBox]] = {}
    for number, annotation in enumerate(read_list(name, content, "annotations"), start=1):
        where = f"{name}: annotations[{number - 1}]"
        try:
            record = check_mapping(where, annotation)
            image_id = read_id(where, record, "image_id")
            if image_id not in image_ids:
                raise build_mismatch_error(f"{where}: image_id", image_id, "an id listed under images")
            box = _parse_box(where, record, categories, states)
        except UserError as error:
            log.drop_box(where, number, error)
            continue
        boxes.setdefault(image_id, []).append(box)
        log.unlisted.update(_find_ignored_parts(record))
    return boxes


def _parse_box(where: str, annotation: Record, categories: dict[Id, str], states: dict[Id, str]) -> RawBox:
    category_id = read_id(where, annotation, "category_id")
    if category_id not in categories:
        raise build_mismatch_error(f"{where}: category_id", category_id, "an id listed under categories")
    left, top, width, height = read_numbers(where, annotation, "bbox", 4)
    iscrowd = annotation.get("iscrowd")
    if iscrowd not in (None, 0, 1, "0", "1"):
        raise build_mismatch_error(f"{where}: iscrowd", iscrowd, "0 or 1")
    return RawBox(
        label=categories[category_id],
        xyxy=(left, top, left + width, top + height),
        state=_parse_state(where, annotation, states),
        trust=read_optional(read_number, where, annotation, "trust"),
        iscrowd=iscrowd in (1, "1"),
    )


def _parse_state(where: str, annotation: Record, states: dict[Id, str]) -> str | None:
    value = annotation.get("state")
    if value is None or isinstance(value, str):
        return read_optional(read_string, where, annotation, "state")
    state_id = read_id(where, annotation, "state")
    if state_id not in states:
        raise build_mismatch_error(f"{where}: state", state_id, "a name, or an id listed under states")
    return states[state_id]


def _find_ignored_parts(annotation: Record) -> Iterator[FindingKind]:
    """Yield what the annotation has besides its box."""
    if annotation.get("segmentation"):
        yield FindingKind.IGNORED_SEGMENTATION
    if annotation.get("num_keypoints", annotation.get("keypoints")):
        yield FindingKind.IGNORED_KEYPOINTS
