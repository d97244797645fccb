"""Packed ground truth has the metrics of the COCO dictionary without its absent objects."""

from __future__ import annotations

from typing import Any

from hotcoco import COCO
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.engine.coco_metrics import evaluate_boxes
from detector.engine.dataset import keep_present_objects, pack_annotations, read_label_names
from detector.engine.detections import pack_rows
from detector.engine.ground_truth import GroundTruthPacker

SIDE = st.floats(1, 200, width=32).map(lambda side: round(side, 3))
OBJECT = st.fixed_dictionaries(
    {"image_id": st.integers(1, 3), "category_id": st.integers(1, 2), "state": st.integers(0, 2),
     "iscrowd": st.integers(0, 1), "bbox": st.lists(SIDE, min_size=4, max_size=4), "area": SIDE}
)  # fmt: skip


@settings(deadline=None, max_examples=60)
@given(st.lists(OBJECT, max_size=8), st.sampled_from([(True, True), (True, False), (False, False)]))
def test_ground_truth_equals_the_dictionary(objects: list[dict[str, Any]], present: tuple[bool, bool]) -> None:
    coco = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 640, "height": 480} for i in (1, 2, 3)],
        "annotations": [{"id": number, **values} for number, values in enumerate(objects, 1)],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "states": [{"id": number, "name": f"s{number}", "present": one} for number, one in enumerate(present, 1)],
    }
    packer = GroundTruthPacker()
    for image in coco["images"]:
        packer.add_image(image)
    for annotation in coco["annotations"]:
        packer.add_object(annotation)
    assert (packer.pack().boxes_xyxy == pack_annotations(coco).boxes_xyxy).all()
    packed = packer.pack_ground_truth(read_label_names(coco))

    expected = keep_present_objects(coco)
    without_states = [{key: values[key] for key in values if key != "state"} for values in expected["annotations"]]
    one, other = packed.build_coco(), COCO(expected | {"annotations": without_states})
    assert one.dataset["annotations"] == other.dataset["annotations"]
    rows = [
        {"image_id": values["image_id"], "category_id": values["category_id"], "bbox": values["bbox"],
         "score": 1 / number, "state": 0, "state_score": 0.0}
        for number, values in enumerate(objects, 1)
    ]  # fmt: skip
    predictions = pack_rows(rows)
    assert list(evaluate_boxes(one, predictions).stats) == list(evaluate_boxes(expected, predictions).stats)
