"""The one data contract: COCO files, with a state as one more integer on an annotation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from detector.data.manifest import CleanImage, Labels
from detector.errors import UserError
from detector.params import Section


class CocoConvertParams(Section):
    """`coco_convert:` of params.yaml, where every key is explained."""

    present_states: list[str] | None


def coco_dataset(images: Sequence[CleanImage], labels: Labels, params: CocoConvertParams) -> dict[str, Any]:
    """The COCO dictionary of `images`, which get ids from 1 in the order of their paths.

    `bbox` is [left, top, width, height] in pixels; `state` is the id of an entry of the top-level
    `states`, 0 when unknown; each entry says whether an object in that state is `present`.
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
            }
            for number, image in enumerate(ordered, 1)
        ],
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for name, number in class_ids.items()],
        "states": [{"id": number, "name": name, "present": name in present} for name, number in state_ids.items()],
    }
