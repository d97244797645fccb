"""States end to end: AP where class and state must both be correct, and detections of absent objects."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.engine.detections import Predictions
from detector.engine.ground_truth import GroundTruth
from detector.evaluation.bootstrap import compute_average_precisions
from detector.evaluation.intervals import nanmean, none_if_nan, weigh_once
from detector.evaluation.matching import Matches, collect_matches
from detector.evaluation.overlaps import find_overlaps


class JointAP(NamedTuple):
    """ap: mean AP at IoU 0.5 over the class-state pairs that occur; None without such a pair.

    replicates [B]: the same per bootstrap sample. by_state: objects and AP of each state.
    """

    ap: float | None
    replicates: NDArray[np.float64]
    by_state: list[dict[str, Any]]


def combine_class_and_state(truth: GroundTruth, predictions: Predictions) -> tuple[GroundTruth, Predictions]:
    """The same dataset with one class per class-state pair: id (class - 1) * S + state.

    Whether a detection has the correct state of an object of unknown state cannot be decided, so that object
    becomes a crowd of each pair of its class: detecting it is neither correct nor wrong.
    """
    states, known_states = len(truth.names.states), truth.objects.states > 0
    copies = np.where(known_states, 1, states)
    rows = np.repeat(np.arange(len(copies)), copies)
    objects, known = truth.objects.select(rows), known_states[rows]
    nth = np.arange(1, len(rows) + 1) - np.repeat(np.cumsum(copies) - copies, copies)  # copy of its object, from 1
    pairs = (objects.categories - 1) * states + np.where(known, objects.states, nth)
    objects = objects._replace(
        ids=np.arange(1, len(rows) + 1), categories=pairs.astype(np.int32), crowds=objects.crowds | ~known
    )
    classes = [f"{name}, {state}" for name in truth.names.classes for state in truth.names.states]
    found = predictions.select(predictions.states > 0)
    combined = replace(found, category_ids=(found.category_ids - 1) * states + found.states)
    return truth._replace(names=truth.names._replace(classes=classes), objects=objects), combined


def compute_joint_ap(truth: GroundTruth, predictions: Predictions, weights: NDArray[np.integer[Any]]) -> JointAP:
    """AP over class-state pairs; weights [B, N]: bootstrap samples of the images."""
    names = truth.names.states
    matches = collect_matches(find_overlaps(*combine_class_and_state(truth, predictions)))
    once = weigh_once(matches.image_ids)
    pair_aps = compute_average_precisions(matches, once, ious=1)[0, 0].reshape(-1, len(names))  # [C, S] at IoU 0.5
    replicates = compute_average_precisions(matches, weights, ious=1)[:, 0]
    objects = matches.object_counts.sum(axis=0).reshape(-1, len(names)).sum(axis=0)
    by_state = [
        {"state": name, "objects": int(objects[index]), "AP": none_if_nan(nanmean(pair_aps[:, index], (0,)))}
        for index, name in enumerate(names)
        if truth.names.present[index]
    ]
    return JointAP(none_if_nan(nanmean(pair_aps, (0, 1))), nanmean(replicates, (1,)), by_state)


class AbsentObjects(NamedTuple):
    """The absent objects, and the best detection of their class at IoU 0.5 that is matched to each.

    scores [G]: of these detections, highest first; images, categories [G]: indices of their images and classes;
    annotation_ids, prediction_indices [G]: the objects' ids and the detections' indices. object_counts [N]: absent
    objects per image.
    """

    scores: NDArray[np.float64]
    images: NDArray[np.integer[Any]]
    categories: NDArray[np.integer[Any]]
    annotation_ids: NDArray[np.integer[Any]]
    prediction_indices: NDArray[np.int64]
    object_counts: NDArray[np.int64]


def match_absent_objects(labels: GroundTruth, predictions: Predictions, matches: Matches) -> AbsentObjects:
    """labels: with all objects; matches: of the predictions with the present ones, which take precedence.

    A detection matched to a present object is not matched to an absent one, however close that is.
    """
    objects = labels.objects.select(~labels.present & ~labels.objects.crowds)
    if not len(objects.ids):
        empty, none = np.zeros(0, np.int32), np.zeros(0, np.int64)
        return AbsentObjects(np.zeros(0), empty, empty, none, none, np.zeros(len(matches.image_ids), np.int64))
    others = np.setdiff1d(np.arange(len(predictions)), matches.prediction_indices[matches.hits()])
    absent = collect_matches(find_overlaps(labels._replace(objects=objects), predictions.select(others)))
    hits = absent.hits()
    return AbsentObjects(
        scores=absent.scores[hits],
        images=absent.images[hits],
        categories=absent.categories[hits],
        annotation_ids=absent.annotation_ids[hits],
        prediction_indices=others[absent.prediction_indices[hits]],
        object_counts=absent.object_counts.sum(axis=1),
    )


def count_by_class_and_state(
    labels: GroundTruth,
    predictions: Predictions,
    matches: Matches,
    absent: AbsentObjects,
    thresholds: NDArray[np.float64],
) -> list[dict[str, Any]]:
    """Per class and state: objects, how many were detected at the thresholds [C], how many with the correct state.

    matches: of the predictions with the present objects.
    """
    objects, names = labels.objects, labels.names
    hits = matches.hits() & ~matches.ignored()
    ids = np.concatenate([matches.annotation_ids[hits], absent.annotation_ids])
    detections = np.concatenate([matches.prediction_indices[hits], absent.prediction_indices])
    found = objects.find(ids)
    above = predictions.scores[detections] >= thresholds[objects.categories[found] - 1]
    found, detections = found[above], detections[above]
    cells = (objects.categories - 1) * len(names.states) + objects.states - 1

    def count(chosen: NDArray[np.int64]) -> NDArray[np.int64]:
        counted = chosen[~objects.crowds[chosen] & (objects.states[chosen] > 0)]
        return np.bincount(cells[counted], minlength=len(names.classes) * len(names.states))

    correct = found[predictions.states[detections] == objects.states[found]]
    counts = [count(np.arange(len(cells))), count(found), count(correct)]
    pairs = [(name, state) for name in names.classes for state in names.states]
    return [
        {"class": name, "state": state, "objects": number, "detected": detected, "correct_state": right}
        for (name, state), (number, detected, right) in zip(pairs, np.stack(counts, axis=1).tolist(), strict=True)
        if number
    ]
