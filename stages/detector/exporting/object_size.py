"""How large the objects of the training images are."""

from __future__ import annotations

from typing import Any

import numpy as np

from detector.engine.dataset import keep_present_objects
from detector.runners.model_metadata import ObjectSize


def measure_object_size(train: dict[str, Any]) -> ObjectSize | None:
    """Measure the present objects of a COCO dataset as coco-convert writes it, without crowds; None without any."""
    sides = {image["id"]: max(image["width"], image["height"]) for image in train["images"]}
    objects = [one for one in keep_present_objects(train)["annotations"] if not one.get("iscrowd")]
    if not objects:
        return None
    sizes = [np.sqrt(one["bbox"][2] * one["bbox"][3]) for one in objects]
    p10, p50, p90 = (round(float(value), 1) for value in np.percentile(sizes, [10, 50, 90]))
    image_side = round(float(np.median([sides[one["image_id"]] for one in objects])))
    return ObjectSize(image_side=image_side, p10=p10, p50=p50, p90=p90)
