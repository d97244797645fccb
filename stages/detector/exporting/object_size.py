"""How large the objects of the training images are."""

from __future__ import annotations

import numpy as np

from detector.engine.ground_truth import GroundTruth
from detector.runners.model_metadata import ObjectSize


def measure_object_size(train: GroundTruth) -> ObjectSize | None:
    """Measure the present objects of a dataset without crowds; None without any."""
    objects = train.objects.select(train.present & ~train.objects.crowds)
    if not len(objects.ids):
        return None
    sizes = np.sqrt(objects.boxes_xywh[:, 2] * objects.boxes_xywh[:, 3])
    p10, p50, p90 = (round(float(value), 1) for value in np.percentile(sizes, [10, 50, 90]))
    image_side = round(float(np.median(train.images.sizes.max(axis=1)[objects.images])))
    return ObjectSize(image_side=image_side, p10=p10, p50=p50, p90=p90)
