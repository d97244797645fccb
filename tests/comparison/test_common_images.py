"""The images that two test sets share, whatever their ids and class numbers."""

from __future__ import annotations

import copy
from typing import Any

from detector.comparison.common_images import Results, shared_images


def truth(names: list[str], classes: tuple[str, ...] = ("cat", "dog"), content: bool = True) -> dict[str, Any]:
    """Image i, named names[i], with a cat and a dog; ids by position, classes numbered in the order given."""
    number = {name: id_ for id_, name in enumerate(classes, 1)}
    return {
        "images": [
            {"id": i, "file_name": f"{name}.jpg", "width": 99, "height": 99} | ({"content": name} if content else {})
            for i, name in enumerate(names, 1)
        ],
        "annotations": [
            {"id": 2 * i + k, "image_id": i, "category_id": number[label], "bbox": [k, ord(name), 9.0, 9.0],
             "area": 81.0, "iscrowd": 0, "state": 1 + k}
            for i, name in enumerate(names, 1)
            for k, label in enumerate(("cat", "dog"))
        ],
        "categories": [{"id": id_, "name": name} for name, id_ in number.items()],
        "states": [{"id": 1, "name": "intact", "present": True}, {"id": 2, "name": "absent", "present": True}],
    }  # fmt: skip


def found(coco: dict[str, Any]) -> list[Any]:
    """A detection of each object, whose score tells which image it is."""
    files = {image["id"]: image["file_name"] for image in coco["images"]}
    return [
        {"image_id": item["image_id"], "category_id": item["category_id"], "bbox": item["bbox"],
         "score": ord(files[item["image_id"]][0]) / 200}
        for item in coco["annotations"]
    ]  # fmt: skip


def results(coco: dict[str, Any]) -> Results:
    return Results(coco, found(coco))


def boxes(coco: dict[str, Any]) -> set[tuple[Any, ...]]:
    """(file, class, box) of all objects."""
    files = {image["id"]: image["file_name"] for image in coco["images"]}
    names = {category["id"]: category["name"] for category in coco["categories"]}
    return {(files[a["image_id"]], names[a["category_id"]], tuple(a["bbox"])) for a in coco["annotations"]}


def test_images_meet_by_content_and_classes_by_name():
    a, b = truth(["p", "q", "r"]), truth(["s", "r", "p"], ("dog", "bird", "cat"))
    for image in b["images"]:
        image["file_name"] = f"{image['content']}-moved.jpg"
    shared = shared_images(results(a), results(b))
    assert [image["file_name"] for image in shared.truth["images"]] == ["p.jpg", "r.jpg"]
    assert (shared.differing, shared.only_a, shared.only_b) == (0, 1, 1)
    assert [category["name"] for category in shared.truth["categories"]] == ["cat", "dog", "bird"]
    assert boxes(shared.truth) == {row for row in boxes(a) if row[0] != "q.jpg"}
    for side in (shared.a, shared.b):
        detected = boxes({**shared.truth, "annotations": side})
        assert detected == boxes(shared.truth)
    score = {item["image_id"]: item["score"] for item in shared.b}
    assert score == {1: ord("p") / 200, 2: ord("r") / 200}


def test_without_content_the_file_name_counts():
    shared = shared_images(results(truth(["p", "q"], content=False)), results(truth(["q", "r"])))
    assert [image["file_name"] for image in shared.truth["images"]] == ["q.jpg"]


def test_copies_of_one_image_stay_apart():
    a = truth(["p", "q"])
    a["images"][1]["content"] = "p"
    shared = shared_images(results(a), results(copy.deepcopy(a)))
    assert len(shared.truth["images"]) == 2
    assert boxes(shared.truth) == boxes(a)


def test_other_objects_leave_an_image_out():
    a = truth(["p", "q", "r", "s", "t"])
    b = copy.deepcopy(a)
    b["annotations"][0]["bbox"][0] += 1  # p moved
    b["annotations"].pop(3)  # q lost one
    b["annotations"][4]["iscrowd"] = 1  # r became a crowd
    b["annotations"].reverse()  # order says nothing
    shared = shared_images(results(a), results(b))
    assert [image["file_name"] for image in shared.truth["images"]] == ["s.jpg", "t.jpg"]
    assert (shared.differing, shared.only_a, shared.only_b) == (3, 0, 0)


def test_objects_that_are_absent_on_both_sides_are_not_compared():
    a = truth(["p"])
    a["states"][1]["present"] = False
    b = copy.deepcopy(a)
    b["annotations"][1]["bbox"][0] += 5  # the guess of where the absent dog would be
    shared = shared_images(results(a), results(b))
    assert {row[1] for row in boxes(shared.truth)} == {"cat"}
    b["states"][1]["present"] = True
    assert shared_images(results(a), results(b)).differing == 1


def test_a_group_that_one_side_knows_is_kept():
    a, b = truth(["p"]), truth(["p"])
    b["images"][0]["group"] = "walk"
    assert shared_images(results(a), results(b)).truth["images"][0]["group"] == "walk"


def test_nothing_in_common():
    shared = shared_images(results(truth(["p"])), results(truth([])))
    assert (shared.truth["images"], shared.a, shared.b, shared.only_a) == ([], [], [], 1)
