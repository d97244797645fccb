"""A dataset in the terms of a model that may know other classes and states: matched by name."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from detector.core.errors import UserError
from detector.engine.detections import Prediction


class Matched(NamedTuple):
    """A dataset and a model on the classes that both know.

    truth: COCO dictionary as coco-convert writes it; categories are the common classes in the model's order, ids
    from 1; states are the model's. category_of: its id by the model's label. left_out: how many objects, by name,
    are of classes or in states that only the dataset has.
    """

    truth: dict[str, Any]
    classes: list[str]
    category_of: dict[int, int]
    left_out: dict[str, dict[str, int]]


def in_terms_of(coco: dict[str, Any], classes: list[str], states: list[str], among: list[str] | None = None) -> Matched:
    """Match a COCO dictionary that coco-convert wrote to a model's classes and states, in the order of their ids.

    Objects of other classes are left out; so are those not in `among`, where it is given. An object in a state that
    the model does not know is of unknown state (0), or left out when there is nothing to detect in that state. What
    is left out is counted.
    Raises UserError when not one class is common.
    """
    name_of = {category["id"]: category["name"] for category in coco["categories"]}
    common = [name for name in classes if name in name_of.values() and (among is None or name in among)]
    if not common:
        raise UserError(
            f"model and dataset have no class in common: the model knows {', '.join(classes)}; the dataset has "
            f"{', '.join(name_of.values()) or 'none'}. Rename the classes of one of them: they are matched by name"
        )
    state_of = {state["id"]: state for state in coco["states"]}
    present = {state["name"]: state["present"] for state in coco["states"]}
    annotations = []
    other_classes: Counter[str] = Counter()
    other_states: Counter[str] = Counter()
    for annotation in coco["annotations"]:
        name, state = name_of[annotation["category_id"]], state_of.get(annotation["state"])
        if name not in common:
            other_classes[name] += 1
            continue
        known = state is not None and state["name"] in states
        if state is not None and not known:
            other_states[state["name"]] += 1
            if not state["present"]:
                continue
        number = states.index(state["name"]) + 1 if state is not None and known else 0
        annotations.append({**annotation, "category_id": common.index(name) + 1, "state": number})
    truth = {
        "images": coco["images"],
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in enumerate(common, 1)],
        "states": [
            {"id": number, "name": name, "present": present.get(name, True)} for number, name in enumerate(states, 1)
        ],
    }
    category_of = {classes.index(name) + 1: number for number, name in enumerate(common, 1)}
    lost = {"classes_only_in_dataset": other_classes, "states_only_in_dataset": other_states}
    return Matched(truth, common, category_of, {key: dict(sorted(counts.items())) for key, counts in lost.items()})


def of_common_classes(
    predictions: list[Prediction], category_of: dict[int, int], classes: list[str]
) -> tuple[list[Prediction], dict[str, int]]:
    """The detections of common classes under the truth's ids; how many of each other class of the model there were."""
    kept: list[Prediction] = []
    left_out: Counter[str] = Counter({name: 0 for label, name in enumerate(classes, 1) if label not in category_of})
    for prediction in predictions:
        label = prediction["category_id"]
        if label in category_of:
            kept.append({**prediction, "category_id": category_of[label]})
        else:
            left_out[classes[label - 1]] += 1
    return kept, dict(sorted(left_out.items()))
