"""Classes and states of a dataset mapped to those of a model by name."""

from __future__ import annotations

from typing import Any

import pytest

from detector.comparison.class_mapping import keep_common_classes, map_to_model_classes
from detector.core.errors import UserError
from detector.engine.detections import Prediction, pack_rows


def dataset(classes: list[str], states: dict[str, bool], rows: list[tuple[int, int]]) -> dict[str, Any]:
    """A COCO dictionary of one image with one object per (class, state) row."""
    return {
        "images": [{"id": 7, "file_name": "7.jpg", "width": 9, "height": 9}],
        "annotations": [
            {
                "id": id_,
                "image_id": 7,
                "category_id": category,
                "bbox": [0, 0, 5, 5],
                "area": 25,
                "iscrowd": 0,
                "state": state,
            }
            for id_, (category, state) in enumerate(rows, 1)
        ],
        "categories": [{"id": id_, "name": name} for id_, name in enumerate(classes, 1)],
        "states": [{"id": id_, "name": name, "present": states[name]} for id_, name in enumerate(states, 1)],
    }


def objects(truth: dict[str, Any]) -> list[tuple[int, int, int]]:
    return [(item["id"], item["category_id"], item["state"]) for item in truth["annotations"]]


def test_a_dataset_with_the_models_classes_is_unchanged() -> None:
    coco = dataset(["a", "b"], {"whole": True, "gone": False}, [(1, 1), (2, 2), (2, 0)])
    mapped = map_to_model_classes(coco, ["a", "b"], ["whole", "gone"])
    assert mapped.truth == coco
    assert mapped.category_by_label == {1: 1, 2: 2}
    assert mapped.left_out == {"classes_only_in_dataset": {}, "states_only_in_dataset": {}}


def test_classes_are_matched_by_name_not_by_id() -> None:
    coco = dataset(["bus", "car", "tram"], {}, [(1, 0), (2, 0), (3, 0), (3, 0)])
    mapped = map_to_model_classes(coco, ["truck", "car", "bus"], [])
    assert mapped.classes == ["car", "bus"]
    assert objects(mapped.truth) == [(1, 2, 0), (2, 1, 0)]
    assert mapped.truth["images"] == coco["images"]
    assert mapped.left_out["classes_only_in_dataset"] == {"tram": 2}
    predictions: list[Prediction] = [
        {"image_id": 7, "category_id": label, "bbox": [0, 0, 5, 5], "score": 0.5, "state": 0, "state_score": 0.0}
        for label in (1, 2, 3, 1)
    ]
    kept, left_out = keep_common_classes(pack_rows(predictions), mapped.category_by_label, ["truck", "car", "bus"])
    assert kept.category_ids.tolist() == [1, 2]
    assert left_out == {"truck": 2}
    nothing, left_out = keep_common_classes(pack_rows([]), mapped.category_by_label, ["truck", "car", "bus"])
    assert (len(nothing), left_out) == (0, {"truck": 0})


def test_only_the_given_classes_are_kept() -> None:
    coco = dataset(["a", "b", "c"], {}, [(1, 0), (2, 0), (3, 0)])
    mapped = map_to_model_classes(coco, ["c", "b", "a"], [], ["a", "c"])
    assert (mapped.classes, mapped.category_by_label) == (["c", "a"], {1: 1, 3: 2})
    assert objects(mapped.truth) == [(1, 2, 0), (3, 1, 0)]


def test_a_class_without_objects_is_kept() -> None:
    assert map_to_model_classes(dataset(["a", "b"], {}, [(1, 0)]), ["a", "b"], []).classes == ["a", "b"]


def test_states_are_matched_by_name() -> None:
    states = {"lost": False, "new": True, "whole": True, "gone": False}
    coco = dataset(["a"], states, [(1, 0), (1, 1), (1, 2), (1, 3), (1, 4)])
    mapped = map_to_model_classes(coco, ["a"], ["gone", "broken", "whole"])
    assert objects(mapped.truth) == [(1, 1, 0), (3, 1, 0), (4, 1, 3), (5, 1, 1)]
    assert [state["present"] for state in mapped.truth["states"]] == [False, True, True]
    assert mapped.left_out["states_only_in_dataset"] == {"lost": 1, "new": 1}


def test_a_model_without_states_leaves_out_absent_objects() -> None:
    coco = dataset(["a"], {"whole": True, "gone": False}, [(1, 1), (1, 2)])
    mapped = map_to_model_classes(coco, ["a"], [])
    assert objects(mapped.truth) == [(1, 1, 0)]
    assert mapped.left_out["states_only_in_dataset"] == {"gone": 1, "whole": 1}


@pytest.mark.parametrize(("classes", "shown"), [(["c", "D"], "c, D"), ([], "none")])
def test_no_class_in_common(classes: list[str], shown: str) -> None:
    with pytest.raises(UserError, match=f"a, b; the dataset has {shown}"):
        map_to_model_classes(dataset(classes, {}, []), ["a", "b"], [])
