"""A dataset mapped to the classes and states of a model, by name."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from detector.core.errors import UserError
from detector.engine.detections import Predictions


class MappedDataset(NamedTuple):
    """A dataset with the classes that it shares with a model.

    truth: COCO dictionary as coco-convert writes it; its categories are the common classes in the model's order, ids
    from 1; its states are the model's. category_by_label: the category id of each common label of the model.
    left_out: the number of objects, by name, of classes or in states that only the dataset has.
    """

    truth: dict[str, Any]
    classes: list[str]
    category_by_label: dict[int, int]
    left_out: dict[str, dict[str, int]]


def map_to_model_classes(
    coco: dict[str, Any], classes: list[str], states: list[str], among: list[str] | None = None
) -> MappedDataset:
    """Map a COCO dictionary that coco-convert wrote to a model's classes and states, in the order of their ids.

    Objects of other classes are left out; so are those not in `among`, if given. An object in a state that the model
    does not know gets the unknown state (0), or is left out if objects in that state are not to be detected.
    Raises UserError when there is no common class.
    """
    name_by_id = {category["id"]: category["name"] for category in coco["categories"]}
    common = [name for name in classes if name in name_by_id.values() and (among is None or name in among)]
    if not common:
        raise UserError(
            f"model and dataset have no class in common: the model knows {', '.join(classes)}; the dataset has "
            f"{', '.join(name_by_id.values()) or 'none'}. Classes are matched by name: rename those of one of them"
        )
    state_by_id = {state["id"]: state for state in coco["states"]}
    present = {state["name"]: state["present"] for state in coco["states"]}
    annotations = []
    other_classes: Counter[str] = Counter()
    other_states: Counter[str] = Counter()
    for annotation in coco["annotations"]:
        name, state = name_by_id[annotation["category_id"]], state_by_id.get(annotation["state"])
        if name not in common:
            other_classes[name] += 1
            continue
        known = state is not None and state["name"] in states
        if state is not None and not known:
            other_states[state["name"]] += 1
            if not state["present"]:
                continue
        state_id = states.index(state["name"]) + 1 if state is not None and known else 0
        annotations.append({**annotation, "category_id": common.index(name) + 1, "state": state_id})
    truth = {
        "images": coco["images"],
        "annotations": annotations,
        "categories": [{"id": id_, "name": name} for id_, name in enumerate(common, 1)],
        "states": [{"id": id_, "name": name, "present": present.get(name, True)} for id_, name in enumerate(states, 1)],
    }
    category_by_label = {classes.index(name) + 1: id_ for id_, name in enumerate(common, 1)}
    left_out = {
        "classes_only_in_dataset": dict(sorted(other_classes.items())),
        "states_only_in_dataset": dict(sorted(other_states.items())),
    }
    return MappedDataset(truth, common, category_by_label, left_out)


def keep_common_classes(
    predictions: Predictions, category_by_label: dict[int, int], classes: list[str]
) -> tuple[Predictions, dict[str, int]]:
    """The detections of common classes with the truth's ids; and the number of detections per other class."""
    labels = range(1, len(classes) + 1)
    new_ids = np.array([0, *(category_by_label.get(label, 0) for label in labels)], np.int32)[predictions.category_ids]
    counts = np.bincount(predictions.category_ids, minlength=len(classes) + 1).tolist()
    left_out = {classes[label - 1]: counts[label] for label in labels if label not in category_by_label}
    kept = replace(predictions, category_ids=new_ids).select(new_ids > 0)
    return kept, dict(sorted(left_out.items()))
