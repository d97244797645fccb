"""The one data contract: COCO files, with a state as one more integer on an annotation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detector.data.disjoint_sets import linked_by_keys
from detector.data.manifest import CleanImage, Labels
from detector.errors import UserError
from detector.params import Section


class CocoConvertParams(Section):
    """`coco_convert:` of params.yaml, where every key is explained."""

    present_states: list[str] | None


def coco_dataset(images: Sequence[CleanImage], labels: Labels, params: CocoConvertParams) -> dict[str, Any]:
    """The COCO dictionary of `images`, which get ids from 1 in the order of their paths.

    `bbox` is [left, top, width, height] in pixels; `state` is the id of an entry of the top-level
    `states`, 0 when unknown; each entry says whether an object in that state is `present`. An image that is
    not alone in its sequence or among its near duplicates has a `group`: such images are no independent evidence.
    Raises UserError when `present_states` names a state that the dataset does not have.
    """
    present = set(labels.states if params.present_states is None else params.present_states)
    unknown = sorted(present - set(labels.states))
    if unknown and labels.states:
        raise UserError(f"params.yaml: `coco_convert.present_states` names {unknown}; the dataset has {labels.states}")
    class_ids = {name: number for number, name in enumerate(labels.classes, 1)}
    state_ids = {name: number for number, name in enumerate(labels.states, 1)}
    annotations: list[dict[str, Any]] = []
    ordered = sorted(images, key=lambda image: image.image)
    groups = _groups(ordered)
    for image_id, image in enumerate(ordered, 1):
        for box in image.boxes:
            left, top, right, bottom = box.xyxy
            width, height = round(right - left, 3), round(bottom - top, 3)
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": class_ids[box.label],
                    "bbox": [left, top, width, height],
                    "area": round(width * height, 3),
                    "iscrowd": int(box.iscrowd),
                    "state": state_ids.get(box.state or "", 0),
                }
            )
    return {
        "images": [
            {
                "id": number,
                "file_name": image.image,
                "width": image.width,
                "height": image.height,
                "content": image.content,
                **({"group": groups[number - 1]} if number - 1 in groups else {}),
            }
            for number, image in enumerate(ordered, 1)
        ],
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for name, number in class_ids.items()],
        "states": [{"id": number, "name": name, "present": name in present} for name, number in state_ids.items()],
    }


def _groups(images: Sequence[CleanImage]) -> dict[int, str]:
    """The sequence, or the first of the near duplicates, of each image that shares it with another one."""
    keys = (
        [("group", image.group)] + [("sequence", image.sequence)] * (image.sequence is not None) for image in images
    )
    groups: dict[int, str] = {}
    for members in linked_by_keys(keys):
        if len(members) > 1:
            sequences = sorted({images[member].sequence or "" for member in members} - {""})
            groups |= dict.fromkeys(members, " + ".join(sequences) or images[members[0]].group)
    return groups
