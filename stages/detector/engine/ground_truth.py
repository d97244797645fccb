"""The ground truth of a split for COCO metrics, without a dictionary per object."""

from __future__ import annotations

from array import array
from typing import Any, NamedTuple

import numpy as np
from hotcoco import COCO
from numpy.typing import NDArray

from detector.engine.annotations import AnnotationPacker
from detector.engine.dataset import LabelNames


class GroundTruth(NamedTuple):
    """The objects to be detected, crowds included, in the units of the COCO file.

    classes: names in id order; images int64 [N]: ids; objects int64 [A, 4]: id, image id, class id and whether a crowd;
    boxes_xywh float64 [A, 4]; areas float64 [A].
    """

    classes: list[str]
    images: NDArray[np.int64]
    objects: NDArray[np.int64]
    boxes_xywh: NDArray[np.float64]
    areas: NDArray[np.float64]

    def build_coco(self) -> COCO:
        """What `evaluate_boxes` takes, with the same metrics as the COCO dictionary; several times as large as this."""
        ids, image_ids, category_ids, crowds = self.objects.T
        return COCO.from_arrays(
            [{"id": image_id} for image_id in self.images.tolist()],
            [{"id": number, "name": name} for number, name in enumerate(self.classes, 1)],
            image_ids,
            category_ids,
            self.boxes_xywh,
            ids=ids,
            area=self.areas,
            iscrowd=crowds,
        )


class GroundTruthPacker(AnnotationPacker):
    """Also packs the ground truth."""

    def __init__(self) -> None:
        super().__init__()
        self._objects, self._object_states, self._boxes_xywh, self._areas = (
            array("q"),
            array("q"),
            array("d"),
            array("d"),
        )

    def add_object(self, annotation: dict[str, Any]) -> None:
        super().add_object(annotation)
        self._objects.extend(annotation[key] for key in ("id", "image_id", "category_id", "iscrowd"))
        self._object_states.append(annotation["state"])
        self._boxes_xywh.extend(annotation["bbox"])
        self._areas.append(annotation["area"])

    def pack_ground_truth(self, names: LabelNames) -> GroundTruth:
        """The objects that are not in an absent state."""
        absent = [state for state, present in enumerate(names.present, 1) if not present]
        kept = ~np.isin(self._object_states, absent)
        return GroundTruth(
            names.classes,
            np.array(self._image_ids, np.int64),
            np.array(self._objects, np.int64).reshape(-1, 4)[kept],
            np.array(self._boxes_xywh, np.float64).reshape(-1, 4)[kept],
            np.array(self._areas, np.float64)[kept],
        )
