"""COCO files, the data format of all later stages; each annotation also has an integer `state`."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from detector.core.output_files import replace_file
from detector.manifest.manifest import CleanImage, IndexEntry, Labels
from detector.manifest.union_find import group_by_shared_keys
from detector.splitting.settings import CocoConvertParams


class WrittenCounts(NamedTuple):
    """Numbers of images and boxes in a COCO file."""

    images: int
    boxes: int


def build_coco_dataset(images: Sequence[CleanImage], labels: Labels, params: CocoConvertParams) -> dict[str, Any]:
    """The COCO dictionary of `images`, which get ids from 1 in the order of their paths.

    `bbox` is [left, top, width, height] in pixels; `state` is the id of an entry in the top-level
    `states`, 0 if unknown; each entry tells whether an object in that state is `present`, that is, detectable.
    Images that share a sequence or are near-duplicates have the same `group`: they are not independent samples.
    `converted_from` is the file in the raw dataset of an image that had to be converted.
    """
    ids = _assign_ids(labels, params)
    ordered = sorted(images, key=lambda image: image.image)
    groups = find_groups(ordered)
    annotations: list[dict[str, Any]] = []
    for number, image in enumerate(ordered, 1):
        annotations += _build_annotations(image, number, len(annotations) + 1, ids)
    rows = [_build_image_entry(image, number, groups.get(number - 1)) for number, image in enumerate(ordered, 1)]
    return {"images": rows, "annotations": annotations, **_build_name_entries(ids)}


def write_coco(
    path: Path, images: Iterable[CleanImage], groups: Mapping[int, str], labels: Labels, params: CocoConvertParams
) -> WrittenCounts:
    """Write the dictionary of `build_coco_dataset` as JSON, with one image in memory at a time.

    images: in the order of their paths; groups: from `find_groups`.
    """
    ids = _assign_ids(labels, params)
    boxes, number = 0, 0
    with (
        replace_file(path) as new,
        new.open("w", encoding="utf-8") as file,
        tempfile.TemporaryFile("w+", encoding="utf-8", dir=path.parent) as buffer,
    ):
        file.write('{"images":[')
        for number, image in enumerate(images, 1):
            file.write("," * (number > 1) + _to_json(_build_image_entry(image, number, groups.get(number - 1))))
            for annotation in _build_annotations(image, number, boxes + 1, ids):
                buffer.write("," * (boxes > 0) + _to_json(annotation))
                boxes += 1
        file.write('],"annotations":[')
        buffer.seek(0)
        shutil.copyfileobj(buffer, file)
        file.write("]," + _to_json(_build_name_entries(ids)).removeprefix("{") + "\n")
    return WrittenCounts(number, boxes)


def _to_json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class _Ids(NamedTuple):
    """Ids by name; absent: names of the states in which an object is not detectable."""

    classes: dict[str, int]
    states: dict[str, int]
    absent: set[str]


def _assign_ids(labels: Labels, params: CocoConvertParams) -> _Ids:
    class_ids = {name: number for number, name in enumerate(labels.classes, 1)}
    state_ids = {name: number for number, name in enumerate(labels.states, 1)}
    return _Ids(class_ids, state_ids, set(params.absent_states))


def _build_name_entries(ids: _Ids) -> dict[str, Any]:
    return {
        "categories": [{"id": number, "name": name} for name, number in ids.classes.items()],
        "states": [
            {"id": number, "name": name, "present": name not in ids.absent} for name, number in ids.states.items()
        ],
    }


def _build_image_entry(image: CleanImage, number: int, group: str | None) -> dict[str, Any]:
    return {
        "id": number,
        "file_name": image.image,
        "width": image.width,
        "height": image.height,
        "content": image.content,
        **({} if image.source == image.image else {"converted_from": image.source}),
        **({} if group is None else {"group": group}),
    }


def _build_annotations(image: CleanImage, image_id: int, first: int, ids: _Ids) -> Iterator[dict[str, Any]]:
    """The annotations of an image; first: the id of the first one."""
    for number, box in enumerate(image.boxes, first):
        left, top, right, bottom = box.xyxy
        width, height = round(right - left, 3), round(bottom - top, 3)
        yield {
            "id": number,
            "image_id": image_id,
            "category_id": ids.classes[box.label],
            "bbox": [left, top, width, height],
            "area": round(width * height, 3),
            "iscrowd": int(box.iscrowd),
            "state": ids.states.get(box.state or "", 0),
        }


def describe_states(states: Sequence[str], params: CocoConvertParams) -> list[str]:
    """Lines that tell which of the dataset's states are detectable, and that no absent state occurs."""
    if not states:
        return ["states: none"]
    detectable = ", ".join(name for name in states if name not in params.absent_states)
    absent = ", ".join(name for name in states if name in params.absent_states)
    if absent:
        return [f"states: {detectable} detectable; {absent} not" if detectable else f"states: {absent} not detectable"]
    lines = [f"states: {detectable} detectable"]
    if params.absent_states:
        names = ", ".join(params.absent_states)
        lines.append(f"  note: coco_convert.absent_states names {names}; the dataset has no such state")
    return lines


def find_groups(images: Sequence[CleanImage] | Sequence[IndexEntry]) -> dict[int, str]:
    """The group of each image, by index, that shares a sequence or is a near-duplicate of another image.

    A group is named after its sequences, or after the first of its near-duplicates.
    """
    keys = (
        [("group", image.group)] + [("sequence", image.sequence)] * (image.sequence is not None) for image in images
    )
    groups: dict[int, str] = {}
    for members in group_by_shared_keys(keys):
        if len(members) > 1:
            sequences = sorted({images[member].sequence or "" for member in members} - {""})
            groups |= dict.fromkeys(members, " + ".join(sequences) or images[members[0]].group)
    return groups
