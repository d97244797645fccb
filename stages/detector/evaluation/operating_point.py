"""One score threshold, chosen on val, and what precision and recall it gives."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from hotcoco import COCOeval
from numpy.typing import NDArray

from detector.evaluation.coco_metrics import Prediction, evaluate_boxes


class Matches(NamedTuple):
    """Every detection, best score first, and whether it found something.

    scores float [D]; correct bool [D]; categories int [D]; truths: number of objects to find, by
    category id. Detections that only lie on a crowd are left out: they are neither right nor wrong.
    """

    scores: NDArray[np.float64]
    correct: NDArray[np.bool_]
    categories: NDArray[np.int64]
    truths: dict[int, int]


class OperatingPoint(NamedTuple):
    """threshold: of the score; detections from it upwards count. All values 0..1."""

    threshold: float
    precision: float
    recall: float
    f1: float


def matches_of(evaluation: COCOeval) -> Matches:
    """The matches that COCO's rules gave at IoU 0.5, for objects of any size."""
    everything = evaluation.params.area_rng[0]
    scores: list[float] = []
    correct: list[bool] = []
    categories: list[int] = []
    truths = dict.fromkeys(evaluation.params.cat_ids, 0)
    for entry in evaluation.eval_imgs:
        if entry is None or list(entry["aRng"]) != list(everything):
            continue
        truths[entry["category_id"]] += sum(not ignored for ignored in entry["gtIgnore"])
        for score, hit, ignored in zip(entry["dtScores"], entry["dtMatched"][0], entry["dtIgnore"][0], strict=True):
            if not ignored:
                scores.append(score)
                correct.append(hit)
                categories.append(entry["category_id"])
    order = np.argsort(-np.array(scores), kind="stable")
    return Matches(
        np.array(scores, float)[order],
        np.array(correct, bool)[order],
        np.array(categories, np.int64)[order],
        truths,
    )


def best_f1(matches: Matches) -> OperatingPoint:
    """The threshold with the highest F1 over all classes; 0.5 when there is nothing to choose by."""
    if not matches.correct.any():
        return at_threshold(matches, 0.5)
    hits = np.cumsum(matches.correct)
    f1 = 2 * hits / (np.arange(1, len(hits) + 1) + max(1, sum(matches.truths.values())))
    # Of equal scores all count or none: only the last of each may be the threshold.
    last = np.append(matches.scores[1:] != matches.scores[:-1], True)
    return at_threshold(matches, float(matches.scores[np.where(last, f1, -1.0).argmax()]))


def at_threshold(matches: Matches, threshold: float, category: int | None = None) -> OperatingPoint:
    """Precision, recall and F1 of all classes together, or of one; 0 where there is nothing to divide by."""
    chosen = matches.scores >= threshold
    truths = sum(matches.truths.values())
    if category is not None:
        chosen &= matches.categories == category
        truths = matches.truths[category]
    hits, found = int((chosen & matches.correct).sum()), int(chosen.sum())
    return OperatingPoint(threshold, hits / max(1, found), hits / max(1, truths), 2 * hits / max(1, found + truths))


def confusions_at(
    threshold: float, truth: dict[str, Any], predictions: list[Prediction], evaluation: COCOeval
) -> NDArray[np.uint64]:
    """Counts [C + 1, C + 1] at IoU 0.5: what was there in rows, what was found in columns, background last.

    evaluation: of these predictions. As for AP, those that only lie on a crowd are neither right nor wrong.
    """
    on_crowd: set[int] = set()
    for entry in evaluation.eval_imgs:
        if entry is not None and list(entry["aRng"]) == list(evaluation.params.area_rng[0]):
            on_crowd |= {id_ for id_, ignored in zip(entry["dtIds"], entry["dtIgnore"][0], strict=True) if ignored}
    counted = [prediction for id_, prediction in enumerate(predictions, 1) if id_ not in on_crowd]
    judged = evaluate_boxes({**truth, "annotations": [a for a in truth["annotations"] if not a["iscrowd"]]}, counted)
    matrix: NDArray[np.uint64] = judged.confusion_matrix(iou_thr=0.5, min_score=threshold)["matrix"]
    return matrix
