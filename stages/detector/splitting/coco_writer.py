"""The one data contract: COCO files, with a state as one more integer on an annotation."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from detector.core.errors import UserError
from detector.core.params import Section
from detector.manifest.manifest import CleanImage, Labels, Place
from detector.manifest.union_find import linked_by_keys


class CocoConvertParams(Section):
    """`coco_convert:` of params.yaml, where every key is explained."""

    present_states: list[str] | None


class Written(NamedTuple):
    """How much a COCO file holds."""

    images: int
    boxes: int


def coco_dataset(images: Sequence[CleanImage], labels: Labels, params: CocoConvertParams) -> dict[str, Any]:
    """The COCO dictionary of `images`, which get ids from 1 in the order of their paths.

    `bbox` is [left, top, width, height] in pixels; `state` is the id of an entry of the top-level
    `states`, 0 when unknown; each entry says whether an object in that state is `present`. An image that is
    not alone in its sequence or among its near duplicates has a `group`: such images are no independent evidence.
    Raises UserError when `present_states` names a state that the dataset does not have.
    """
    ids = _ids(labels, params)
    ordered = sorted(images, key=lambda image: image.image)
    groups = groups_of(ordered)
    annotations: list[dict[str, Any]] = []
    for number, image in enumerate(ordered, 1):
        annotations += _annotations(image, number, len(annotations) + 1, ids)
    rows = [_image(image, number, groups.get(number - 1)) for number, image in enumerate(ordered, 1)]
    return {"images": rows, "annotations": annotations, **_names(ids)}


def write_coco(
    path: Path, images: Iterable[CleanImage], groups: Mapping[int, str], labels: Labels, params: CocoConvertParams
) -> Written:
    """The dictionary of `coco_dataset` as JSON, written with one image in memory at a time.

    images: in the order of their paths; groups: `groups_of` them. Raises UserError likewise.
    """
    ids = _ids(labels, params)
    boxes, number = 0, 0
    with path.open("w", encoding="utf-8") as file, tempfile.TemporaryFile("w+", encoding="utf-8") as later:
        file.write('{"images":[')
        for number, image in enumerate(images, 1):
            file.write("," * (number > 1) + _json(_image(image, number, groups.get(number - 1))))
            for annotation in _annotations(image, number, boxes + 1, ids):
                later.write("," * (boxes > 0) + _json(annotation))
                boxes += 1
        file.write('],"annotations":[')
        later.seek(0)
        shutil.copyfileobj(later, file)
        file.write("]," + _json(_names(ids)).removeprefix("{") + "\n")
    return Written(number, boxes)


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


class _Ids(NamedTuple):
    """By name; present: the states that are there to be detected."""

    classes: dict[str, int]
    states: dict[str, int]
    present: set[str]


def _ids(labels: Labels, params: CocoConvertParams) -> _Ids:
    present = set(labels.states if params.present_states is None else params.present_states)
    unknown = sorted(present - set(labels.states))
    if unknown and labels.states:
        raise UserError(f"params.yaml: `coco_convert.present_states` names {unknown}; the dataset has {labels.states}")
    class_ids = {name: number for number, name in enumerate(labels.classes, 1)}
    return _Ids(class_ids, {name: number for number, name in enumerate(labels.states, 1)}, present)


def _names(ids: _Ids) -> dict[str, Any]:
    return {
        "categories": [{"id": number, "name": name} for name, number in ids.classes.items()],
        "states": [{"id": number, "name": name, "present": name in ids.present} for name, number in ids.states.items()],
    }


def _image(image: CleanImage, number: int, group: str | None) -> dict[str, Any]:
    return {
        "id": number,
        "file_name": image.image,
        "width": image.width,
        "height": image.height,
        "content": image.content,
        **({} if group is None else {"group": group}),
    }


def _annotations(image: CleanImage, image_id: int, first: int, ids: _Ids) -> Iterator[dict[str, Any]]:
    """Of all boxes of an image; first: the id of the first one."""
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


def groups_of(images: Sequence[CleanImage] | Sequence[Place]) -> dict[int, str]:
    """The sequence, or the first of the near duplicates, of each image (by its index) that shares it with another."""
    keys = (
        [("group", image.group)] + [("sequence", image.sequence)] * (image.sequence is not None) for image in images
    )
    groups: dict[int, str] = {}
    for members in linked_by_keys(keys):
        if len(members) > 1:
            sequences = sorted({images[member].sequence or "" for member in members} - {""})
            groups |= dict.fromkeys(members, " + ".join(sequences) or images[members[0]].group)
    return groups
