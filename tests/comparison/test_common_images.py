"""The images that two test sets have in common, whatever their ids and class ids."""

from __future__ import annotations

import copy
from typing import Any

from detector.comparison.common_images import DetectorResults, find_common_images


def truth(names: list[str], classes: tuple[str, ...] = ("cat", "dog"), content: bool = True) -> dict[str, Any]:
    """Image i, named names[i], with a cat and a dog; ids by position, classes numbered in the order given."""
    number = {name: id_ for id_, name in enumerate(classes, 1)}
    return {
        "images": [
            {"id": i, "file_name": f"{name}.jpg", "width": 99, "height": 99} | ({"content": name} if content else {})
            for i, name in enumerate(names, 1)
        ],
        "annotations": [
            {
                "id": 2 * i + k,
                "image_id": i,
                "category_id": number[label],
                "bbox": [k, ord(name), 9.0, 9.0],
                "area": 81.0,
                "iscrowd": 0,
                "state": 1 + k,
            }
            for i, name in enumerate(names, 1)
            for k, label in enumerate(("cat", "dog"))
        ],
        "categories": [{"id": id_, "name": name} for name, id_ in number.items()],
        "states": [{"id": 1, "name": "intact", "present": True}, {"id": 2, "name": "absent", "present": True}],
    }


def detect_all(coco: dict[str, Any]) -> list[Any]:
    """A detection of each object, with a score that identifies the image."""
    files = {image["id"]: image["file_name"] for image in coco["images"]}
    return [
        {
            "image_id": item["image_id"],
            "category_id": item["category_id"],
            "bbox": item["bbox"],
            "score": ord(files[item["image_id"]][0]) / 200,
        }
        for item in coco["annotations"]
    ]


def make_results(coco: dict[str, Any]) -> DetectorResults:
    return DetectorResults(coco, detect_all(coco))


def boxes(coco: dict[str, Any]) -> set[tuple[Any, ...]]:
    """(file, class, box) of all objects."""
    files = {image["id"]: image["file_name"] for image in coco["images"]}
    names = {category["id"]: category["name"] for category in coco["categories"]}
    return {(files[a["image_id"]], names[a["category_id"]], tuple(a["bbox"])) for a in coco["annotations"]}


def test_images_are_matched_by_content_and_classes_by_name() -> None:
    a, b = truth(["p", "q", "r"]), truth(["s", "r", "p"], ("dog", "bird", "cat"))
    for image in b["images"]:
        image["file_name"] = f"{image['content']}-moved.jpg"
    common = find_common_images(make_results(a), make_results(b))
    assert [image["file_name"] for image in common.truth["images"]] == ["p.jpg", "r.jpg"]
    assert (common.differing, common.only_a, common.only_b) == (0, 1, 1)
    assert [category["name"] for category in common.truth["categories"]] == ["cat", "dog", "bird"]
    assert boxes(common.truth) == {row for row in boxes(a) if row[0] != "q.jpg"}
    for side in (common.a, common.b):
        detected = boxes({**common.truth, "annotations": list(side.to_rows())})
        assert detected == boxes(common.truth)
    score = {item["image_id"]: item["score"] for item in common.b.to_rows()}
    assert score == {1: ord("p") / 200, 2: ord("r") / 200}


def test_images_without_content_are_matched_by_file_name() -> None:
    common = find_common_images(make_results(truth(["p", "q"], content=False)), make_results(truth(["q", "r"])))
    assert [image["file_name"] for image in common.truth["images"]] == ["q.jpg"]


def test_copies_of_one_image_stay_apart() -> None:
    a = truth(["p", "q"])
    a["images"][1]["content"] = "p"
    common = find_common_images(make_results(a), make_results(copy.deepcopy(a)))
    assert len(common.truth["images"]) == 2
    assert boxes(common.truth) == boxes(a)


def test_images_with_different_objects_are_left_out() -> None:
    a = truth(["p", "q", "r", "s", "t"])
    b = copy.deepcopy(a)
    b["annotations"][0]["bbox"][0] += 1  # p moved
    b["annotations"].pop(3)  # q lost one
    b["annotations"][4]["iscrowd"] = 1  # r became a crowd
    b["annotations"].reverse()  # the order does not matter
    common = find_common_images(make_results(a), make_results(b))
    assert [image["file_name"] for image in common.truth["images"]] == ["s.jpg", "t.jpg"]
    assert (common.differing, common.only_a, common.only_b) == (3, 0, 0)


def test_objects_that_are_absent_on_both_sides_are_not_compared() -> None:
    a = truth(["p"])
    a["states"][1]["present"] = False
    b = copy.deepcopy(a)
    b["annotations"][1]["bbox"][0] += 5  # the guessed place of the absent dog
    common = find_common_images(make_results(a), make_results(b))
    assert {row[1] for row in boxes(common.truth)} == {"cat"}
    b["states"][1]["present"] = True
    assert find_common_images(make_results(a), make_results(b)).differing == 1


def test_a_group_of_only_one_side_is_kept() -> None:
    a, b = truth(["p"]), truth(["p"])
    b["images"][0]["group"] = "walk"
    assert find_common_images(make_results(a), make_results(b)).truth["images"][0]["group"] == "walk"


def test_nothing_in_common() -> None:
    common = find_common_images(make_results(truth(["p"])), make_results(truth([])))
    assert (common.truth["images"], len(common.a), len(common.b), common.only_a) == ([], 0, 0, 1)
