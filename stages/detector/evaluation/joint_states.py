"""States end to end: AP where class and state must both be correct, and detections of absent objects."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.engine.detections import Predictions
from detector.evaluation.bootstrap import compute_average_precisions
from detector.evaluation.intervals import nanmean, none_if_nan
from detector.evaluation.matching import Matches, collect_matches, find_overlaps


class JointAP(NamedTuple):
    """ap: mean AP at IoU 0.5 over the class-state pairs that occur; None without such a pair.

    replicates [B]: the same per bootstrap sample. by_state: objects and AP of each state.
    """

    ap: float | None
    replicates: NDArray[np.float64]
    by_state: list[dict[str, Any]]


def combine_class_and_state(truth: dict[str, Any], predictions: Predictions) -> tuple[dict[str, Any], Predictions]:
    """The same dataset with one class per class-state pair: id (class - 1) * S + state.

    Whether a detection has the correct state of an object of unknown state cannot be decided, so that object
    becomes a crowd of each pair of its class: detecting it is neither correct nor wrong.
    """
    states = len(truth["states"])
    annotations: list[dict[str, Any]] = []
    for annotation in truth["annotations"]:
        first = (annotation["category_id"] - 1) * states
        known = annotation["state"] > 0
        for state in [annotation["state"]] if known else range(1, states + 1):
            crowd = annotation["iscrowd"] if known else 1
            changes = {"category_id": first + state, "iscrowd": crowd, "id": len(annotations) + 1}
            annotations.append({**annotation, **changes})
    categories = [
        {"id": (category["id"] - 1) * states + state["id"], "name": f"{category['name']}, {state['name']}"}
        for category in truth["categories"]
        for state in truth["states"]
    ]
    known = predictions.select(predictions.states > 0)
    combined = replace(known, category_ids=(known.category_ids - 1) * states + known.states)
    return {**truth, "annotations": annotations, "categories": categories}, combined


def compute_joint_ap(truth: dict[str, Any], predictions: Predictions, weights: NDArray[np.integer[Any]]) -> JointAP:
    """AP over class-state pairs; weights [B, N]: bootstrap samples of the images."""
    names = [state["name"] for state in truth["states"]]
    matches = collect_matches(find_overlaps(*combine_class_and_state(truth, predictions)))
    once = np.ones((1, len(matches.image_ids)), np.int32)
    pair_aps = compute_average_precisions(matches, once)[0, 0].reshape(-1, len(names))  # [C, S] at IoU 0.5
    replicates = compute_average_precisions(matches, weights)[:, 0]
    objects = matches.object_counts.sum(axis=0).reshape(-1, len(names)).sum(axis=0)
    by_state = [
        {"state": name, "objects": int(objects[index]), "AP": none_if_nan(nanmean(pair_aps[:, index], (0,)))}
        for index, name in enumerate(names)
        if truth["states"][index]["present"]
    ]
    return JointAP(none_if_nan(nanmean(pair_aps, (0, 1))), nanmean(replicates, (1,)), by_state)


class AbsentObjects(NamedTuple):
    """The absent objects, and the best detection of their class at IoU 0.5 that is matched to each.

    scores [G]: of these detections, highest first; images, categories [G]: indices of their images and classes.
    object_counts [N]: absent objects per image. detections: annotation id -> index of the prediction.
    """

    scores: NDArray[np.float64]
    images: NDArray[np.integer[Any]]
    categories: NDArray[np.integer[Any]]
    object_counts: NDArray[np.int64]
    detections: dict[int, int]


def match_absent_objects(coco: dict[str, Any], predictions: Predictions, matches: Matches) -> AbsentObjects:
    """coco: with all objects; matches: of the predictions with the present ones, which take precedence.

    A detection matched to a present object is not matched to an absent one, however close that is.
    """
    absent_states = {state["id"] for state in coco["states"] if not state["present"]}
    objects = [a for a in coco["annotations"] if a["state"] in absent_states and not a["iscrowd"]]
    if not objects:
        empty = np.zeros(0, np.int32)
        return AbsentObjects(np.zeros(0), empty, empty, np.zeros(len(matches.image_ids), np.int64), {})
    others = np.setdiff1d(np.arange(len(predictions)), matches.prediction_indices[matches.hits[0]])
    absent = collect_matches(find_overlaps({**coco, "annotations": objects}, predictions.select(others)))
    hits = absent.hits[0]
    pairs = zip(absent.annotation_ids[hits].tolist(), others[absent.prediction_indices[hits]].tolist(), strict=True)
    return AbsentObjects(
        scores=absent.scores[hits],
        images=absent.images[hits],
        categories=absent.categories[hits],
        object_counts=absent.object_counts.sum(axis=1),
        detections=dict(pairs),
    )


def count_by_class_and_state(
    coco: dict[str, Any],
    predictions: Predictions,
    matches: Matches,
    absent: AbsentObjects,
    thresholds: NDArray[np.float64],
) -> list[dict[str, Any]]:
    """Per class and state: objects, how many were detected at the thresholds [C], how many with the correct state.

    matches: of the predictions with the present objects.
    """
    hits = matches.hits[0] & ~matches.ignored[0]
    pairs = zip(matches.annotation_ids[hits].tolist(), matches.prediction_indices[hits].tolist(), strict=True)
    detections = absent.detections | dict(pairs)
    scores = predictions.scores
    threshold_by_category = dict(zip(matches.category_ids.tolist(), thresholds.tolist(), strict=True))
    counts: dict[tuple[int, int], list[int]] = defaultdict(lambda: [0, 0, 0])
    for annotation in coco["annotations"]:
        if annotation["iscrowd"] or not annotation["state"]:
            continue
        row = counts[annotation["category_id"], annotation["state"]]
        row[0] += 1
        detection = detections.get(annotation["id"])
        if detection is not None and scores[detection] >= threshold_by_category[annotation["category_id"]]:
            row[1] += 1
            row[2] += int(predictions.states[detection] == annotation["state"])
    classes = {category["id"]: category["name"] for category in coco["categories"]}
    states = {state["id"]: state["name"] for state in coco["states"]}
    return [
        {
            "class": classes[category],
            "state": states[state],
            "objects": count,
            "detected": detected,
            "correct_state": correct,
        }
        for (category, state), (count, detected, correct) in sorted(counts.items())
    ]
