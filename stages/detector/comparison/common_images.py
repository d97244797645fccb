"""The images that two test sets have in common with the same truth, so that two detectors meet on equal ground."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable
from typing import Any, NamedTuple, cast

from detector.engine.detections import Prediction


class Results(NamedTuple):
    """truth: COCO dictionary whose images and categories the predictions' ids mean."""

    truth: dict[str, Any]
    predictions: list[Prediction]


class Shared(NamedTuple):
    """Images in both with identical objects to find, under new ids that both sides share.

    truth: COCO dictionary, without objects in a state that is not to be detected; a, b: predictions on it.
    differing: images in both whose objects differ; only_a, only_b: images that one side lacks: left out.
    """

    truth: dict[str, Any]
    a: list[Prediction]
    b: list[Prediction]
    differing: int
    only_a: int
    only_b: int


def shared_images(a: Results, b: Results) -> Shared:
    """An image is known by its `content`, or by `file_name` where a file lacks that; a class by its name."""
    key = "content" if all("content" in image for side in (a, b) for image in side.truth["images"]) else "file_name"
    images_a, images_b = _images_by(key, a.truth), _images_by(key, b.truth)
    objects_a, objects_b = _objects(a.truth), _objects(b.truth)
    both = [name for name in images_a if name in images_b]
    same = [name for name in both if objects_a[images_a[name]["id"]] == objects_b[images_b[name]["id"]]]
    names = list(dict.fromkeys(category["name"] for side in (a, b) for category in side.truth["categories"]))
    classes = {name: number for number, name in enumerate(names, 1)}
    images = []
    annotations: list[dict[str, Any]] = []
    for number, name in enumerate(same, 1):
        # A group that only one of them knows still binds its images.
        images.append({**images_b[name], **images_a[name], "id": number})
        for class_name, bbox, area, crowd in objects_a[images_a[name]["id"]]:
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": classes[class_name],
                 "bbox": list(bbox), "area": area, "iscrowd": crowd}
            )  # fmt: skip
    return Shared(
        {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": number, "name": name} for name, number in classes.items()],
        },
        _renumbered(a, {images_a[name]["id"]: number for number, name in enumerate(same, 1)}, classes),
        _renumbered(b, {images_b[name]["id"]: number for number, name in enumerate(same, 1)}, classes),
        differing=len(both) - len(same),
        only_a=len(images_a) - len(both),
        only_b=len(images_b) - len(both),
    )


def _images_by(key: str, truth: dict[str, Any]) -> dict[Hashable, dict[str, Any]]:
    """Images by `key`, and by their turn where several have the same."""
    turns: Counter[str] = Counter()
    images: dict[Hashable, dict[str, Any]] = {}
    for image in sorted(truth["images"], key=lambda image: str(image["file_name"])):
        images[image[key], turns[image[key]]] = image
        turns[image[key]] += 1
    return images


def _objects(truth: dict[str, Any]) -> dict[int, list[tuple[str, tuple[float, ...], float, int]]]:
    """Class, bbox, area and crowd of the objects to find by image, sorted."""
    absent = {state["id"] for state in truth.get("states", []) if not state["present"]}
    names = {category["id"]: category["name"] for category in truth["categories"]}
    objects = defaultdict(list)
    for item in truth["annotations"]:
        if item.get("state") not in absent:
            area = item.get("area", item["bbox"][2] * item["bbox"][3])
            row = (names[item["category_id"]], tuple(item["bbox"]), area, int(item.get("iscrowd", 0)))
            objects[item["image_id"]].append(row)
    for rows in objects.values():
        rows.sort()
    return objects


def _renumbered(side: Results, images: dict[int, int], classes: dict[str, int]) -> list[Prediction]:
    """The predictions on `images` (old id to new), in their order."""
    names = {category["id"]: category["name"] for category in side.truth["categories"]}
    rows = []
    for prediction in side.predictions:
        if prediction["image_id"] in images:
            ids = {"image_id": images[prediction["image_id"]], "category_id": classes[names[prediction["category_id"]]]}
            rows.append(cast(Prediction, {**prediction, **ids}))
    return rows
