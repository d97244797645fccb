"""What a detector knows well enough to accuse a label: after one epoch, everything contradicts it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.engine.detections import Predictions
from detector.engine.ground_truth import GroundTruth
from detector.evaluation.bootstrap import compute_average_precisions
from detector.evaluation.intervals import none_if_nan, weigh_once
from detector.evaluation.matching import collect_matches
from detector.evaluation.overlaps import find_overlaps

MIN_AP50 = 0.3  # of a class on the split; half of its boxes may be missing or wrong before a good detector falls below
MIN_STATE_PRECISION = 0.5  # of a state on the split, given the true boxes
MAX_LISTED = 10  # names in a note


class Trust(NamedTuple):
    """categories, states: ids of the classes and states that the detector knows; notes: what it does not know."""

    categories: set[int]
    states: set[int]
    notes: dict[str, str]


def assess_trust(
    split: str,
    labels: GroundTruth,
    predictions: Predictions,
    state_probabilities: NDArray[np.floating[Any]] | None,
) -> Trust:
    """What a detector knows on a split, as in `find_label_issues`. A class without objects there is not known."""
    matches = collect_matches(find_overlaps(labels.keep_present(), predictions))
    precisions = compute_average_precisions(matches, weigh_once(matches.image_ids), ious=1)[0, 0]
    ap50 = {name: none_if_nan(value) for name, value in zip(labels.names.classes, precisions, strict=True)}
    weak = {name: value for name, value in ap50.items() if value is not None and value < MIN_AP50}
    notes = _note(f"label issues on {split}", weak, f"classes with an AP50 below {MIN_AP50:g}")
    known = {
        category for category, name in enumerate(labels.names.classes, 1) if ap50[name] is not None and name not in weak
    }
    if state_probabilities is None:
        return Trust(known, set(), notes)
    precision = _compute_state_precision(labels, state_probabilities)
    names = dict(enumerate(labels.names.states, 1))
    weak = {names[state]: value for state, value in precision.items() if value < MIN_STATE_PRECISION}
    rule = f"states with a precision below {MIN_STATE_PRECISION:g} given the true boxes"
    notes |= _note(f"state issues on {split}", weak, rule)
    return Trust(known, {state for state in precision if names[state] not in weak}, notes)


def _compute_state_precision(labels: GroundTruth, probabilities: NDArray[np.floating[Any]]) -> dict[int, float]:
    """Of each state that is predicted [A, S] for a label of known state, the fraction of these labels with it."""
    labeled = labels.objects.states[~labels.objects.crowds]
    predicted = probabilities.argmax(axis=1) + 1 if len(labeled) else labeled.astype(np.int64)
    correct = (predicted == labeled)[labeled > 0]
    predicted = predicted[labeled > 0]
    return {int(state): float(correct[predicted == state].mean()) for state in np.unique(predicted)}


def _note(key: str, weak: dict[str, float], rule: str) -> dict[str, str]:
    if not weak:
        return {}
    listed = sorted(weak, key=lambda name: weak[name])[:MAX_LISTED]
    names = ", ".join(f"{name} {weak[name]:.2f}" for name in listed) + (", …" if len(listed) < len(weak) else "")
    return {key: f"too weak a detector for any on {len(weak):,} {rule}: {names}"}
