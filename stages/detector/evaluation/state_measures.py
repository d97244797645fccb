"""The numbers of the states: told of given boxes, told end to end, and told of what is absent."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.engine.dataset import pack
from detector.evaluation.intervals import number, share
from detector.evaluation.joint_states import by_class_and_state, joint_ap
from detector.evaluation.matched_split import Judged
from detector.evaluation.operating_point import choose
from detector.evaluation.state_metrics import (
    confusion_of_states,
    macro_f1_of_draws,
    precision_recall_curve,
    roc_curve,
    state_numbers,
)


class StateMeasures(NamedTuple):
    """values: the flat numbers; samples [B]: the same in other draws of the images; details, notes: see `measures`."""

    values: dict[str, float | None]
    samples: dict[str, NDArray[np.float64]]
    details: dict[str, Any]
    notes: dict[str, str]


def state_measures(
    val: Judged, test: Judged, limits: NDArray[np.float64], state_scores: NDArray[np.float64],
    times: NDArray[np.int32], cost_ratio: float,
) -> StateMeasures:  # fmt: skip
    """limits [C]: threshold of each class; state_scores [A, S] of test's objects; times [B, N]: draws of its images."""
    names = [state["name"] for state in test.coco["states"]]
    annotations = pack(test.coco)
    true, told = annotations.states, state_scores.argmax(axis=1) + 1
    ids = np.repeat(annotations.image_ids, np.diff(annotations.starts))
    images = np.searchsorted(test.matches.image_ids, ids)  # [A], places
    matrix = confusion_of_states(true, told, len(names))
    given = state_numbers(matrix, names)
    joint = joint_ap(test.truth, test.predictions, times)
    hallucination, in_draws, notes = hallucinated(val, test, limits, times, cost_ratio)
    known = true > 0
    curves = [(name, state_scores[known, index], true[known] == index + 1) for index, name in enumerate(names)]
    details = {
        "names": names,
        "confusion": matrix.tolist(),
        "given_boxes": given.rows,
        "joint": joint.of_state,
        "roc": {name: roc_curve(scores, positive) for name, scores, positive in curves},
        "precision_recall": {name: precision_recall_curve(scores, positive) for name, scores, positive in curves},
        "by_class": by_class_and_state(test.coco, test.predictions, test.matches, test.absent, limits),
        "hallucination": hallucination,
    }
    if given.macro_f1 is None:
        notes["state_macro_F1"] = "no object has a known state"
    if joint.ap is None:
        notes["joint_AP"] = "there is no object of known state to find"
    for row in given.rows:
        if not row["objects"]:
            notes[f"state {row['state']}"] = "there is no object in it"
    values = {"state_macro_F1": given.macro_f1, "joint_AP": joint.ap, "hallucination": hallucination["share"]}
    samples = {
        "state_macro_F1": macro_f1_of_draws(true, told, images, len(names), times),
        "joint_AP": joint.samples,
        "hallucination": in_draws,
    }
    return StateMeasures(values, samples, details, notes)


def hallucinated(
    val: Judged, test: Judged, limits: NDArray[np.float64], times: NDArray[np.int32], cost_ratio: float
) -> tuple[dict[str, Any], NDArray[np.float64], dict[str, str]]:
    """The share of absent objects that were found at the thresholds, the share in each draw, and notes."""
    absent = test.absent
    above = absent.scores >= limits[absent.categories]
    found = np.bincount(absent.images[above], minlength=len(absent.truths))
    notes = {} if absent.truths.any() else {"hallucination": "there is no absent object"}
    by_cost = None
    if val.absent.truths.any():
        by_cost = choose(val.matches, "cost", val.absent.scores, cost_ratio).threshold
    else:
        notes["threshold_by_cost"] = "val has no absent object"
    details = {
        "absent": int(absent.truths.sum()),
        "found": int(found.sum()),
        "share": number(share(found.sum(), absent.truths.sum())),
        "threshold_by_cost": by_cost,
        "cost_ratio": cost_ratio,
    }
    return details, share(times @ found, times @ absent.truths), notes
