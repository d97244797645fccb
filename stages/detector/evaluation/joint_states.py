"""States end to end: detections whose class, place and state are right, and detections of what is absent."""

from __future__ import annotations

from collections import defaultdict
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.engine.coco_metrics import evaluate_boxes
from detector.engine.detections import Prediction
from detector.evaluation.bootstrap import average_precisions
from detector.evaluation.intervals import mean_over, number
from detector.evaluation.matching import Matches, matches_of


class Joint(NamedTuple):
    """ap: mean AP at IoU 0.5 over the pairs of class and state that occur; None without such a pair.

    samples [B]: the same in other draws of the images. of_state: objects and AP by state.
    """

    ap: float | None
    samples: NDArray[np.float64]
    of_state: list[dict[str, Any]]


def pairs_as_classes(truth: dict[str, Any], predictions: list[Prediction]) -> tuple[dict[str, Any], list[Prediction]]:
    """The same dataset with a class for each pair of class and state: id (class - 1) * S + state.

    Whether a detection says the right state of an object of unknown state cannot be told, so that object
    becomes a crowd of each of its class's pairs: finding it is neither right nor wrong.
    """
    states = len(truth["states"])
    annotations: list[dict[str, Any]] = []
    for annotation in truth["annotations"]:
        first = (annotation["category_id"] - 1) * states
        known = annotation["state"] > 0
        for state in [annotation["state"]] if known else range(1, states + 1):
            crowd = annotation["iscrowd"] if known else 1
            pair = {"category_id": first + state, "iscrowd": crowd, "id": len(annotations) + 1}
            annotations.append({**annotation, **pair})
    categories = [
        {"id": (category["id"] - 1) * states + state["id"], "name": f"{category['name']}, {state['name']}"}
        for category in truth["categories"] for state in truth["states"]
    ]  # fmt: skip
    found: list[Prediction] = [
        {**prediction, "category_id": (prediction["category_id"] - 1) * states + prediction["state"]}
        for prediction in predictions if prediction["state"]
    ]  # fmt: skip
    return {**truth, "annotations": annotations, "categories": categories}, found


def joint_ap(truth: dict[str, Any], predictions: list[Prediction], times: NDArray[np.int32]) -> Joint:
    """AP of pairs of class and state; times [B, N]: draws of the images."""
    names = [state["name"] for state in truth["states"]]
    matches = matches_of(evaluate_boxes(*pairs_as_classes(truth, predictions)))
    once = np.ones((1, len(matches.image_ids)), np.int32)
    of_pairs = average_precisions(matches, once)[0, 0].reshape(-1, len(names))  # [C, S] at IoU 0.5
    samples = average_precisions(matches, times)[:, 0]
    objects = matches.truths.sum(axis=0).reshape(-1, len(names)).sum(axis=0)
    of_state = [
        {"state": name, "objects": int(objects[index]), "AP": number(mean_over(of_pairs[:, index], (0,)))}
        for index, name in enumerate(names) if truth["states"][index]["present"]
    ]  # fmt: skip
    return Joint(number(mean_over(of_pairs, (0, 1))), mean_over(samples, (1,)), of_state)


class Absent(NamedTuple):
    """Objects that are absent, and the best detection of their class at IoU 0.5 that found each.

    scores [G]: of the detections that found one, highest first; images, categories [G]: places of their images
    and classes; truths [N]: absent objects by image; found: id of the annotation -> the detection.
    """

    scores: NDArray[np.float64]
    images: NDArray[np.int64]
    categories: NDArray[np.int64]
    truths: NDArray[np.int64]
    found: dict[int, Prediction]


def absent_objects(coco: dict[str, Any], predictions: list[Prediction], matches: Matches) -> Absent:
    """coco: with all objects; matches: of the predictions with the present ones, which come first.

    A detection that found a present object did not invent an absent one, however near that lies.
    """
    absent = {state["id"] for state in coco["states"] if not state["present"]}
    objects = [a for a in coco["annotations"] if a["state"] in absent and not a["iscrowd"]]
    if not objects:
        nobody = np.zeros(0, np.int64)
        return Absent(np.zeros(0), nobody, nobody, np.zeros(len(matches.image_ids), np.int64), {})
    right = set(matches.detections[matches.hits[0]].tolist())
    others = [prediction for place, prediction in enumerate(predictions) if place not in right]
    ghosts = matches_of(evaluate_boxes({**coco, "annotations": objects}, others))
    hits = ghosts.hits[0]
    found = dict(zip(ghosts.partners[hits].tolist(), ghosts.detections[hits].tolist(), strict=True))
    return Absent(
        ghosts.scores[hits], ghosts.images[hits], ghosts.categories[hits], ghosts.truths.sum(axis=1),
        {annotation: others[place] for annotation, place in found.items()},
    )  # fmt: skip


def by_class_and_state(
    coco: dict[str, Any],
    predictions: list[Prediction],
    matches: Matches,
    absent: Absent,
    limits: NDArray[np.float64],
) -> list[dict[str, Any]]:
    """Of each class and state that occur: objects, how many were found at the thresholds [C], how many with that state.

    matches: of the predictions with the present objects.
    """
    hits = matches.hits[0] & ~matches.ignored[0]
    found: dict[int, Prediction] = dict(absent.found)
    for annotation, place in zip(matches.partners[hits].tolist(), matches.detections[hits].tolist(), strict=True):
        found[annotation] = predictions[place]
    limit_of = dict(zip(matches.category_ids.tolist(), limits.tolist(), strict=True))
    rows: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0, 0])
    for annotation in coco["annotations"]:
        if annotation["iscrowd"] or not annotation["state"]:
            continue
        row = rows[annotation["category_id"], annotation["state"]]
        row[0] += 1
        detection = found.get(annotation["id"])
        if detection is not None and detection["score"] >= limit_of[annotation["category_id"]]:
            row[1] += 1
            row[2] += detection["state"] == annotation["state"]
    classes = {category["id"]: category["name"] for category in coco["categories"]}
    states = {state["id"]: state["name"] for state in coco["states"]}
    return [
        {"class": classes[category], "state": states[state], "objects": count, "found": seen, "right": right}
        for (category, state), (count, seen, right) in sorted(rows.items())
    ]
