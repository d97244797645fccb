"""Suspected label errors: labels that a trained detector contradicts.

The idea is ObjectLab's (Tkachenko, Thyagarajan and Mueller 2023, "ObjectLab: Automated diagnosis of mislabeled
images in object detection data"): overlooked, swapped and badly located boxes are each scored by how confident the
detector is in what contradicts the label. As in confident learning (Northcutt, Jiang and Chuang 2021), confidence is
measured against the objects of the same class, so that a detector with low scores raises no false alarms. What it
does not know at all it accuses of nothing, see `label_trust`.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.core.boxes import pairwise_iou_xyxy, xywh_to_xyxy
from detector.engine.detections import Predictions
from detector.engine.ground_truth import GroundTruth
from detector.evaluation.calibration import calibrate_score
from detector.evaluation.label_matching import MATCH_IOU, ImageMatch, LabelMatches
from detector.evaluation.label_trust import Trust, assess_trust
from detector.manifest.decisions import REMOVE

MIN_SCORE = 0.2  # issues with a lower score are not listed


class LabelIssue(NamedTuple):
    """A suspected label error. score: 0..1, higher is worse; kind: one of `decisions.KINDS`.

    label, state, bbox (left, top, width, height in pixels): of the label, or of the detection for a missing box;
    annotation: id in the COCO file, 0 for a missing box; suggestion: the fix, as in a decision; content: hash of the
    image; detected: bbox of the detection that contradicts the label, None without one; source: the image's file in the
    raw dataset if it was converted, else "".
    """

    split: str
    file: str
    kind: str
    score: float
    label: str
    state: str
    bbox: tuple[float, ...]
    annotation: int
    suggestion: str
    reason: str
    content: str
    detected: tuple[float, ...] | None
    source: str = ""


class Candidate(NamedTuple):
    """A possible issue of an image. row, column: indices of its label and its detection, where there are any."""

    kind: str
    score: float
    row: int | None
    column: int | None
    suggestion: str
    reason: str


class ClassStatistics(NamedTuple):
    """names, states: by id; absent: ids of the states in which an object is not to be detected.

    By category id, over the present objects: confidence, the mean confidence of their detections, 0..1, and iou, the
    median IoU of those detected. temperature: that calibrates scores.
    """

    names: dict[int, str]
    states: dict[int, str]
    absent: set[int]
    confidence: dict[int, float]
    iou: dict[int, float]
    temperature: float = 1.0


def find_label_issues(
    split: str,
    labels: GroundTruth,
    predictions: Predictions,
    state_probabilities: NDArray[np.floating[Any]] | None,
    temperature: float = 1.0,
) -> tuple[list[LabelIssue], dict[str, str]]:
    """Suspected errors in the labels of a split, worst first; and notes on what was not judged.

    predictions: on its images. state_probabilities [A, S]: the state head's output for each label that
    is not a crowd, in their order; None without a head. temperature: that calibrates the scores in
    the reasons.
    """
    matches = LabelMatches(labels, predictions)
    statistics = _compute_statistics(labels, matches)._replace(temperature=temperature)
    trust = assess_trust(split, labels, predictions, state_probabilities)
    issues: list[LabelIssue] = []
    start = 0
    for match in matches:
        end = start + len(match.labels)
        candidates = [*_check_labels(match, statistics), *_check_missing(match, statistics)]
        if state_probabilities is not None:
            candidates += _check_states(match, statistics, state_probabilities[start:end])
        for candidate in candidates:
            if candidate.score >= MIN_SCORE and _is_trusted(match, candidate, statistics, trust):
                issues.append(_create_issue(split, labels, match, statistics, candidate))
        start = end
    return sort_by_score(issues), trust.notes


def _is_trusted(match: ImageMatch, candidate: Candidate, statistics: ClassStatistics, trust: Trust) -> bool:
    """Whether the detector knows the classes of the label and of the detection, or the state that it suggests."""
    if candidate.kind == "wrong_state":
        return any(statistics.states[state] == candidate.suggestion for state in trust.states)
    involved = set() if candidate.row is None else {int(match.label_classes[candidate.row])}
    if candidate.column is not None:
        involved.add(int(match.predicted_classes[candidate.column]))
    return involved <= trust.categories


def sort_by_score(issues: Iterable[LabelIssue]) -> list[LabelIssue]:
    """Worst first, equal scores by file and box."""
    return sorted(issues, key=lambda issue: (-issue.score, issue.file, issue.bbox, issue.kind))


def _compute_statistics(labels: GroundTruth, matches: Iterable[ImageMatch]) -> ClassStatistics:
    names = labels.names
    absent = {state for state, present in enumerate(names.present, 1) if not present}
    confidences: dict[int, array[float]] = {}
    ious: dict[int, array[float]] = {}
    for match in matches:
        for row, category in enumerate(match.label_classes.tolist()):
            if int(match.label_states[row]) not in absent:
                confidences.setdefault(category, array("d")).append(_match_confidence(match, row))
                if match.is_matched(row):
                    ious.setdefault(category, array("d")).append(match.iou[row, match.matches[row]])
    return ClassStatistics(
        dict(enumerate(names.classes, 1)),
        {0: ""} | dict(enumerate(names.states, 1)),
        absent,
        {category: float(np.mean(values)) for category, values in confidences.items()},
        {category: float(np.median(values)) for category, values in ious.items()},
    )


def _check_labels(match: ImageMatch, statistics: ClassStatistics) -> Iterator[Candidate]:
    """At most one candidate about class or box per present label."""
    present = ~np.isin(match.label_states, list(statistics.absent))
    label_iou = pairwise_iou_xyxy(match.labels_xyxy, match.labels_xyxy)
    for row in np.flatnonzero(present).tolist():
        duplicate = _check_duplicate(match, statistics, row, label_iou[row], present)
        if duplicate is not None:
            yield duplicate
        else:
            yield max(_check_label(match, statistics, row), key=lambda candidate: candidate.score)


def _check_duplicate(
    match: ImageMatch,
    statistics: ClassStatistics,
    row: int,
    label_iou: NDArray[np.float64],
    present: NDArray[np.bool_],
) -> Candidate | None:
    """Of two overlapping labels of a class, the one detected with less confidence; none when both are detected.

    label_iou [A]: of the label with each of the image.
    """
    overlapping = (label_iou >= MATCH_IOU) & (match.label_classes == match.label_classes[row]) & present
    overlapping[row] = False
    confidence = _match_confidence(match, row)
    better = [
        other
        for other in np.flatnonzero(overlapping).tolist()
        if (_match_confidence(match, other), -other) > (confidence, -row)
    ]
    if not better:
        return None
    iou = max(float(label_iou[other]) for other in better)
    score = iou * (1 - confidence)
    name = statistics.names[int(match.label_classes[row])]
    detected = "no detection of its own" if not confidence else f"only a weak detection of its own ({confidence:.2f})"
    reason = f"overlaps another {name} (IoU {iou:.2f}) and has {detected}"
    return Candidate("duplicate_box", score, row, None, REMOVE, reason)


def _match_confidence(match: ImageMatch, row: int) -> float:
    """The confidence of a label's own detection, 0 without one."""
    return float(match.confidence[match.matches[row]]) if match.is_matched(row) else 0.0


def _check_label(match: ImageMatch, statistics: ClassStatistics, row: int) -> Iterator[Candidate]:
    """The possible issues of a label that is not a duplicate."""
    label = int(match.label_classes[row])
    name = statistics.names[label]
    column = match.matches.get(row)
    usual = statistics.confidence.get(label, 0.0)
    # A detection of the class that belongs to a neighboring label may still cover this object too.
    shared = float((match.confidence * match.iou[row])[match.predicted_classes == label].max(initial=0.0))
    confidence = 0.0 if column is None else float(match.confidence[column])
    if shared >= MIN_SCORE:
        detected = f"only detected as part of another labeled {name}"
    elif column is None:
        detected = "no detection here"
    else:
        detected = f"only a weak detection here ({_format_score(match, column, statistics)})"
    reason = f"{detected}; mean confidence for {name} is {usual:.0%}"
    yield Candidate("spurious_box", usual - max(confidence, shared), row, None, REMOVE, reason)
    if column is None:
        return
    score = _format_score(match, column, statistics)
    iou, predicted = float(match.iou[row, column]), int(match.predicted_classes[column])
    if predicted == label:
        typical = statistics.iou.get(label, 0.0)
        shortfall = max(0.0, typical - iou) / typical if typical else 0.0
        reason = f"IoU with the detected {name} (score {score}) is {iou:.2f}; the median is {typical:.2f}"
        box = " ".join(f"{value:g}" for value in match.boxes_xywh[column].tolist())
        yield Candidate("bad_location", confidence * shortfall, row, column, box, reason)
    else:
        same_class = (match.predicted_classes == label) & (match.iou[row] >= MATCH_IOU)
        doubt = 1 - float(match.confidence[same_class].max(initial=0.0))
        reason = f"labeled {name}, predicted {statistics.names[predicted]} (score {score})"
        yield Candidate("wrong_class", confidence * doubt, row, column, statistics.names[predicted], reason)


def _check_missing(match: ImageMatch, statistics: ClassStatistics) -> Iterator[Candidate]:
    """Detections that match no label, the most confident of those that overlap."""
    nearest = match.iou.max(axis=0, initial=0.0)
    matched = np.isin(np.arange(len(match.predicted_classes)), list(match.matches.values()))
    free = np.flatnonzero((nearest < MATCH_IOU) & ~matched)
    free = free[np.argsort(-match.confidence[free], kind="stable")]
    boxes_xyxy = xywh_to_xyxy(match.boxes_xywh[free])
    overlaps = pairwise_iou_xyxy(boxes_xyxy, boxes_xyxy) >= MATCH_IOU
    kept: list[int] = []
    for place, column in enumerate(free.tolist()):
        if not overlaps[place, kept].any():
            kept.append(place)
            name = statistics.names[int(match.predicted_classes[column])]
            score = float(match.confidence[column] * (1 - nearest[column]))
            reason = f"unlabeled {name} detected here (score {_format_score(match, column, statistics)})"
            yield Candidate("missing_box", score, None, column, name, reason)


def _check_states(
    match: ImageMatch, statistics: ClassStatistics, probabilities: NDArray[np.floating[Any]]
) -> Iterator[Candidate]:
    """Labels [A] with a state that is not the most probable one; probabilities [A, S]."""
    for row, label in enumerate(match.label_states.tolist()):
        if label:
            predicted = int(probabilities[row].argmax()) + 1
            p_predicted, p_label = probabilities[row, predicted - 1], probabilities[row, label - 1]
            reason = (
                f"labeled {statistics.states[label]} ({p_label:.2f}), "
                f"predicted {statistics.states[predicted]} ({p_predicted:.2f})"
            )
            margin = float(p_predicted - p_label)
            yield Candidate("wrong_state", margin, row, None, statistics.states[predicted], reason)


def _format_score(match: ImageMatch, column: int, statistics: ClassStatistics) -> str:
    return f"{calibrate_score(float(match.scores[column]), statistics.temperature):.2f}"


def _create_issue(
    split: str, labels: GroundTruth, match: ImageMatch, statistics: ClassStatistics, candidate: Candidate
) -> LabelIssue:
    column, row = candidate.column, candidate.row
    detected = None if column is None else tuple(match.boxes_xywh[column].tolist())
    if row is not None:
        place = match.labels[row]
        label, state, annotation = (
            int(match.label_classes[row]),
            int(match.label_states[row]),
            labels.objects.ids[place],
        )
        bbox = tuple(labels.objects.boxes_xywh[place].tolist())
    else:
        assert detected is not None
        label, state, annotation = int(match.predicted_classes[column]), int(match.states[column]), 0
        bbox = detected
    return LabelIssue(
        split=split,
        file=str(labels.images.files[match.image]),
        kind=candidate.kind,
        score=round(candidate.score, 5),
        label=statistics.names[label],
        state=statistics.states[state],
        bbox=bbox,
        annotation=int(annotation),
        suggestion=candidate.suggestion,
        reason=candidate.reason,
        content=str(labels.images.contents[match.image]),
        detected=detected,
        source=labels.images.sources.get(int(labels.images.ids[match.image]), ""),
    )
