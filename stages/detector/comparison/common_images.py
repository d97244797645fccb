"""The images that two test sets have in common, with the same ground truth, for a fair comparison."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable
from typing import Any, NamedTuple

from detector.engine.detections import Predictions, pack_rows


class DetectorResults(NamedTuple):
    """truth: the COCO dictionary that the ids of the predictions, COCO results, refer to."""

    truth: dict[str, Any]
    predictions: list[dict[str, Any]]


class CommonImages(NamedTuple):
    """Images in both test sets with identical objects to detect, under new ids.

    truth: COCO dictionary without absent objects and without states; a, b: the predictions of both detectors on it.
    differing: number of images in both whose objects differ; only_a, only_b: number of images in one set only; all of
    these are left out.
    """

    truth: dict[str, Any]
    a: Predictions
    b: Predictions
    differing: int
    only_a: int
    only_b: int


def find_common_images(a: DetectorResults, b: DetectorResults) -> CommonImages:
    """Images are matched by `content`, or by `file_name` if any lacks it; classes by name."""
    key = "content" if all("content" in image for side in (a, b) for image in side.truth["images"]) else "file_name"
    images_a, images_b = _index_images(key, a.truth), _index_images(key, b.truth)
    objects_a, objects_b = _list_objects(a.truth), _list_objects(b.truth)
    in_both = [name for name in images_a if name in images_b]
    common = [name for name in in_both if objects_a[images_a[name]["id"]] == objects_b[images_b[name]["id"]]]
    names = list(dict.fromkeys(category["name"] for side in (a, b) for category in side.truth["categories"]))
    classes = {name: id_ for id_, name in enumerate(names, 1)}
    images = []
    annotations: list[dict[str, Any]] = []
    for image_id, name in enumerate(common, 1):
        # An image keeps a group that only one of the sets has.
        images.append({**images_b[name], **images_a[name], "id": image_id})
        for class_name, bbox, area, crowd in objects_a[images_a[name]["id"]]:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": classes[class_name],
                    "bbox": list(bbox),
                    "area": area,
                    "iscrowd": crowd,
                    "state": 0,
                }
            )
    categories = [{"id": id_, "name": name} for name, id_ in classes.items()]
    return CommonImages(
        truth={"images": images, "annotations": annotations, "categories": categories, "states": []},
        a=_renumber(a, {images_a[name]["id"]: id_ for id_, name in enumerate(common, 1)}, classes),
        b=_renumber(b, {images_b[name]["id"]: id_ for id_, name in enumerate(common, 1)}, classes),
        differing=len(in_both) - len(common),
        only_a=len(images_a) - len(in_both),
        only_b=len(images_b) - len(in_both),
    )


def _index_images(key: str, truth: dict[str, Any]) -> dict[Hashable, dict[str, Any]]:
    """Images by the value of `key` and a running number, which tells images with equal values apart."""
    counts: Counter[str] = Counter()
    images: dict[Hashable, dict[str, Any]] = {}
    for image in sorted(truth["images"], key=lambda image: str(image["file_name"])):
        images[image[key], counts[image[key]]] = image
        counts[image[key]] += 1
    return images


def _list_objects(truth: dict[str, Any]) -> dict[int, list[tuple[str, tuple[float, ...], float, int]]]:
    """Class, bbox, area and crowd flag of the objects to detect, by image, sorted."""
    absent_states = {state["id"] for state in truth.get("states", []) if not state["present"]}
    names = {category["id"]: category["name"] for category in truth["categories"]}
    objects = defaultdict(list)
    for annotation in truth["annotations"]:
        if annotation.get("state") not in absent_states:
            bbox = annotation["bbox"]
            area = annotation.get("area", bbox[2] * bbox[3])
            row = (names[annotation["category_id"]], tuple(bbox), area, int(annotation.get("iscrowd", 0)))
            objects[annotation["image_id"]].append(row)
    for rows in objects.values():
        rows.sort()
    return objects


def _renumber(side: DetectorResults, images: dict[int, int], classes: dict[str, int]) -> Predictions:
    """The predictions on `images` (old id to new), in their order, with new image and category ids."""
    names = {category["id"]: category["name"] for category in side.truth["categories"]}
    rows = []
    for prediction in side.predictions:
        if prediction["image_id"] in images:
            ids = {"image_id": images[prediction["image_id"]], "category_id": classes[names[prediction["category_id"]]]}
            rows.append({**prediction, **ids})
    return pack_rows(rows)
