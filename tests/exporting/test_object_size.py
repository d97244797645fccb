"""The size of the training objects in a model file's metadata."""

from __future__ import annotations

from detector.engine.ground_truth import GroundTruth
from detector.exporting.object_size import measure_object_size
from tests.support.packed import pack_labels


def make_truth(*objects: tuple[int, float, float, int, int]) -> GroundTruth:
    """objects: image id, width, height, state, iscrowd; state 2 is absent."""
    coco = {
        "images": [{"id": 1, "width": 640, "height": 480}, {"id": 2, "width": 100, "height": 300}],
        "states": [{"id": 1, "name": "intact", "present": True}, {"id": 2, "name": "absent", "present": False}],
        "annotations": [
            {"image_id": image, "bbox": [0, 0, width, height], "state": state, "iscrowd": crowd}
            for image, width, height, state, crowd in objects
        ],
    }
    return pack_labels(coco)


def test_percentiles_of_the_objects_and_the_side_of_their_images() -> None:
    objects = [(1, 4.0 * side, side / 4, 1, 0) for side in range(10, 30)]
    size = measure_object_size(make_truth(*objects, (2, 90.0, 90.0, 0, 0)))
    assert size is not None
    assert size.model_dump() == {"image_side": 640, "p10": 12.0, "p50": 20.0, "p90": 28.0}


def test_absent_objects_and_crowds_do_not_count() -> None:
    size = measure_object_size(make_truth((2, 10, 10, 1, 0), (1, 90, 90, 2, 0), (1, 90, 90, 1, 1)))
    assert size is not None
    assert size.model_dump() == {"image_side": 300, "p10": 10.0, "p50": 10.0, "p90": 10.0}
    assert measure_object_size(make_truth((1, 90, 90, 2, 0))) is None
