"""Packed ground truth is the COCO dictionary: its annotations, its metrics, and its parts."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hotcoco import COCO
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.engine.coco_metrics import evaluate_boxes
from detector.engine.dataset import pack_annotations
from detector.engine.detections import pack_rows
from detector.engine.ground_truth import pack_ground_truth
from tests.support.coco_cases import keep_present_objects, make_coco_case

SIDE = st.floats(1, 200, width=32).map(lambda side: round(side, 3))
OBJECT = st.fixed_dictionaries(
    {"image_id": st.integers(1, 3), "category_id": st.integers(1, 2), "state": st.integers(0, 2),
     "iscrowd": st.integers(0, 1), "bbox": st.lists(SIDE, min_size=4, max_size=4), "area": SIDE}
)  # fmt: skip


@settings(max_examples=60)
@given(st.lists(OBJECT, max_size=8), st.sampled_from([(True, True), (True, False), (False, False)]))
def test_ground_truth_equals_the_dictionary(objects: list[dict[str, Any]], present: tuple[bool, bool]) -> None:
    coco = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 640, "height": 480} for i in (1, 2, 3)],
        "annotations": [{"id": number, **values} for number, values in enumerate(objects, 1)],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "states": [{"id": number, "name": f"s{number}", "present": one} for number, one in enumerate(present, 1)],
    }
    packed = pack_ground_truth(coco)
    for name, values in pack_annotations(coco)._asdict().items():
        np.testing.assert_array_equal(getattr(packed.pack_annotations(), name), values, strict=True)

    expected = keep_present_objects(coco)
    in_order = sorted(expected["annotations"], key=lambda values: values["image_id"])
    without_states = [{key: values[key] for key in values if key != "state"} for values in in_order]
    one, other = packed.keep_present().build_coco(), COCO(expected | {"annotations": without_states})
    assert one.dataset["annotations"] == other.dataset["annotations"]
    rows = [
        {"image_id": values["image_id"], "category_id": values["category_id"], "bbox": values["bbox"],
         "score": 1 / number, "state": 0, "state_score": 0.0}
        for number, values in enumerate(objects, 1)
    ]  # fmt: skip
    predictions = pack_rows(rows)
    assert list(evaluate_boxes(one, predictions).stats) == list(evaluate_boxes(expected, predictions).stats)


def test_images_and_objects_are_sorted_by_the_images_ids() -> None:
    coco, _ = make_coco_case(2, images=9)
    for number, annotation in enumerate(coco["annotations"], 7):
        annotation["id"] = number * 7919 % 1009
    expected = pack_ground_truth(coco)
    shuffled = {
        **coco,
        "images": coco["images"][::-1],
        "annotations": sorted(coco["annotations"], key=lambda a: a["id"]),
    }
    packed = pack_ground_truth(shuffled)
    for name, values in expected.images._asdict().items():
        np.testing.assert_array_equal(getattr(packed.images, name), values)
    by_id = {annotation["id"]: annotation for annotation in coco["annotations"]}
    objects = packed.objects
    assert sorted(objects.ids.tolist()) == sorted(by_id)
    assert (np.diff(objects.images) >= 0).all()
    for place, annotation_id in enumerate(objects.ids.tolist()):
        annotation = by_id[annotation_id]
        assert packed.images.ids[objects.images[place]] == annotation["image_id"]
        assert objects.boxes_xywh[place].tolist() == annotation["bbox"]
    some = objects.ids[::3]
    assert objects.ids[objects.find(some)].tolist() == some.tolist()


def test_selected_images_keep_their_objects_and_fields() -> None:
    coco, _ = make_coco_case(2, images=9)
    for image in coco["images"]:
        if image["id"] % 2:
            image |= {"group": f"g{image['id'] // 4}", "tags": ["a"], "note": None}
    coco["images"][2]["converted_from"] = "3.tif"
    truth = pack_ground_truth(coco)
    assert list(truth.images.fields) == ["group"]
    codes, names = truth.images.fields["group"]
    assert [names[code] if code >= 0 else None for code in codes] == [image.get("group") for image in coco["images"]]
    kept = np.array([image["id"] % 3 == 0 for image in coco["images"]])
    part = truth.select_images(kept)
    images = [image for image in coco["images"] if image["id"] % 3 == 0]
    objects = [one for one in coco["annotations"] if one["image_id"] % 3 == 0]
    expected = pack_ground_truth({**coco, "images": images, "annotations": objects})
    assert part.images.ids.tolist() == [3, 6, 9]
    assert part.images.sources == {3: "3.tif"}
    for one, other in zip(part.objects, expected.objects, strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_object_of_an_unknown_image_is_an_error() -> None:
    coco, _ = make_coco_case(2, images=3)
    coco["annotations"][0]["image_id"] = 8
    with pytest.raises(KeyError, match="8"):
        pack_ground_truth(coco)
    with pytest.raises(KeyError, match="8"):
        pack_ground_truth(coco | {"images": []})
