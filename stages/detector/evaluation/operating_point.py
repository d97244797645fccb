"""One score threshold, chosen on val, and what precision and recall it gives."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.coco_metrics import Prediction, evaluate_boxes
from detector.evaluation.matching import Matches


class OperatingPoint(NamedTuple):
    """threshold: of the score; detections from it upwards count. All values 0..1."""

    threshold: float
    precision: float
    recall: float
    f1: float


def best_f1(matches: Matches) -> OperatingPoint:
    """The threshold with the highest F1 over all classes; 0.5 when there is nothing to choose by."""
    counted = matches.at_half()
    if not counted.hits[0].any():
        return at_threshold(matches, 0.5)
    hits = np.cumsum(counted.hits[0])
    f1 = 2 * hits / (np.arange(1, len(hits) + 1) + max(1, matches.truths.sum()))
    # Of equal scores all count or none: only the last of each may be the threshold.
    last = np.append(counted.scores[1:] != counted.scores[:-1], True)
    return at_threshold(matches, float(counted.scores[np.where(last, f1, -1.0).argmax()]))


def at_threshold(matches: Matches, threshold: float, category: int | None = None) -> OperatingPoint:
    """Precision, recall and F1 of all classes, or of the one in a place; 0 where there is nothing to divide by."""
    counted = matches.at_half()
    chosen = counted.scores >= threshold
    truths = int((matches.truths if category is None else matches.truths[:, category]).sum())
    if category is not None:
        chosen &= counted.categories == category
    hits, found = int((chosen & counted.hits[0]).sum()), int(chosen.sum())
    return OperatingPoint(threshold, hits / max(1, found), hits / max(1, truths), 2 * hits / max(1, found + truths))


def confusions_at(
    threshold: float, truth: dict[str, Any], predictions: list[Prediction], matches: Matches
) -> NDArray[np.uint64]:
    """Counts [C + 1, C + 1] at IoU 0.5: what was there in rows, what was found in columns, background last.

    matches: of these predictions. As for AP, those that only lie on a crowd are neither right nor wrong.
    """
    on_crowd = set(matches.detections[matches.ignored[0]].tolist())
    counted = [prediction for place, prediction in enumerate(predictions) if place not in on_crowd]
    judged = evaluate_boxes({**truth, "annotations": [a for a in truth["annotations"] if not a["iscrowd"]]}, counted)
    matrix: NDArray[np.uint64] = judged.confusion_matrix(iou_thr=0.5, min_score=threshold)["matrix"]
    return matrix
