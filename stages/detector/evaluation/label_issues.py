"""Labels that are probably wrong, because a trained detector sees the image otherwise.

The idea is ObjectLab's (Tkachenko, Thyagarajan and Mueller 2023, "ObjectLab: Automated diagnosis of mislabeled
images in object detection data"): overlooked, swapped and badly located boxes are each scored by how sure the
detector is of what contradicts the label. From confident learning (Northcutt, Jiang and Chuang 2021) come the
yardsticks: what "sure" is and what is usually found is measured on the class's own objects, so that a class that
the detector knows badly, or a detector of low scores, raises no alarm.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.core.boxes import pairwise_iou_xyxy, xywh_to_xyxy
from detector.evaluation.label_views import FOUND, View, views_of
from detector.manifest.decisions import NEAR_IOU, REMOVE, Decision, new_xyxy

COLUMNS = ("split", "file", "kind", "score", "class", "state", "left", "top", "width", "height", "annotation",
           "suggestion", "reason", "content")  # fmt: skip
LEAST_SCORE = 0.2  # what is less suspicious is not worth a look


class Suspect(NamedTuple):
    """A label, or the lack of one, that may be wrong. score: 0..1, higher is worse; kind: one of `KINDS`.

    label, state, bbox (left, top, width, height in pixels): of the label, and of a missing box as found;
    annotation: id in the COCO file, 0 for a missing box; suggestion: what would mend it, as a decision's;
    content: hash of the image; found: bbox of the detection that contradicts the label, None where none does.
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
    found: tuple[float, ...] | None


class Claim(NamedTuple):
    """What a rule says: row, of the label, and column, of the detection that it is about, where there are any."""

    kind: str
    score: float
    row: int | None
    column: int | None
    suggestion: str
    reason: str


class Knowledge(NamedTuple):
    """names, states: by id; absent: ids of the states in which nothing can be found.

    By category id, of objects that can be found: support, how surely they are found on average, 0..1, and iou,
    the median of those found.
    """

    names: dict[int, str]
    states: dict[int, str]
    absent: set[int]
    support: dict[int, float]
    iou: dict[int, float]


def suspects_of(
    split: str, coco: dict[str, Any], predictions: Sequence[Any], state_probabilities: NDArray[np.floating[Any]] | None
) -> list[Suspect]:
    """Suspected errors in the labels of a split's COCO dictionary, worst first.

    predictions: COCO results of its images. state_probabilities: [A, S], what the state head says of each label
    that is no crowd, in the order of `pack`; None without a head.
    """
    views = views_of(coco, predictions)
    known = _knowledge(coco, views)
    suspects: list[Suspect] = []
    start = 0
    for view in views:
        end = start + len(view.annotations)
        claims = [*_about_labels(view, known), *_about_missing(view, known)]
        if state_probabilities is not None:
            claims += _about_states(view, known, state_probabilities[start:end])
        suspects += [_suspect(split, view, known, claim) for claim in claims if claim.score >= LEAST_SCORE]
        start = end
    return worst_first(suspects)


def worst_first(suspects: Iterable[Suspect]) -> list[Suspect]:
    """Sorted by score, equal ones by file and box."""
    return sorted(suspects, key=lambda suspect: (-suspect.score, suspect.file, suspect.bbox, suspect.kind))


def _knowledge(coco: dict[str, Any], views: list[View]) -> Knowledge:
    absent = {state["id"] for state in coco["states"] if not state["present"]}
    support: dict[int, list[float]] = {}
    ious: dict[int, list[float]] = {}
    for view in views:
        for row, annotation in enumerate(view.annotations):
            if annotation["state"] not in absent:
                name, found = annotation["category_id"], view.finds(row)
                support.setdefault(name, []).append(view.sure[view.pairs[row]] if found else 0.0)
                if found:
                    ious.setdefault(name, []).append(view.iou[row, view.pairs[row]])
    return Knowledge(
        {category["id"]: category["name"] for category in coco["categories"]},
        {0: ""} | {state["id"]: state["name"] for state in coco["states"]},
        absent,
        {name: float(np.mean(values)) for name, values in support.items()},
        {name: float(np.median(values)) for name, values in ious.items()},
    )


def _about_labels(view: View, known: Knowledge) -> Iterator[Claim]:
    """One claim at most about the class and the box of each label that is to be found."""
    present = np.array([annotation["state"] not in known.absent for annotation in view.annotations], bool)
    for row in np.flatnonzero(present).tolist():
        twin = _duplicate(view, known, row, present)
        yield twin if twin is not None else max(_readings(view, known, row), key=lambda claim: claim.score)


def _duplicate(view: View, known: Knowledge, row: int, present: NDArray[np.bool_]) -> Claim | None:
    """The less found of two labels of a class that overlap; none when the detector sees both."""
    same = (view.twins[row] >= FOUND) & (view.labels == view.labels[row]) & present
    same[row] = False
    mine = (_support(view, row), -row)
    better = [other for other in np.flatnonzero(same).tolist() if (_support(view, other), -other) > mine]
    if not better:
        return None
    iou = max(float(view.twins[row, other]) for other in better)
    score = iou * (1 - mine[0])
    name = known.names[int(view.labels[row])]
    seen = "is not found" if not mine[0] else f"is hardly found ({mine[0]:.2f})"
    reason = f"overlaps another {name} by IoU {iou:.2f} and {seen} beside it"
    return Claim("duplicate_box", score, row, None, REMOVE, reason)


def _support(view: View, row: int) -> float:
    """How surely a label's object is found by a detection of its own."""
    return float(view.sure[view.pairs[row]]) if view.finds(row) else 0.0


def _readings(view: View, known: Knowledge, row: int) -> Iterator[Claim]:
    """What may be wrong with a label that stands alone."""
    label = int(view.labels[row])
    name = known.names[label]
    column = view.pairs.get(row)
    usual = known.support.get(label, 0.0)
    # What is found of the class but belongs to a neighbour's label may still be this object, seen as one with it.
    shared = float((view.sure * view.iou[row])[view.found == label].max(initial=0.0))
    sure = 0.0 if column is None else float(view.sure[column])
    seen = "nothing is found here" if column is None else f"hardly anything is found here ({_score(view, column)})"
    where = seen if shared < LEAST_SCORE else f"only what another {name} is labelled for is found here"
    reason = f"{where}; of {name} {usual:.0%} is usual"
    yield Claim("spurious_box", usual - max(sure, shared), row, None, REMOVE, reason)
    if column is None:
        return
    score = _score(view, column)
    iou, found = float(view.iou[row, column]), int(view.found[column])
    if found == label:
        typical = known.iou.get(label, 0.0)
        short = max(0.0, typical - iou) / typical if typical else 0.0
        reason = f"the {name} found here (score {score}) fits by IoU {iou:.2f}; {typical:.2f} is usual"
        box = " ".join(f"{value:g}" for value in view.predictions[column]["bbox"])
        yield Claim("bad_location", sure * short, row, column, box, reason)
    else:
        own = (view.found == label) & (view.iou[row] >= FOUND)
        doubt = 1 - float(view.sure[own].max(initial=0.0))
        reason = f"labelled {name}, found as {known.names[found]} (score {score})"
        yield Claim("wrong_class", sure * doubt, row, column, known.names[found], reason)


def _about_missing(view: View, known: Knowledge) -> Iterator[Claim]:
    """Detections that are about no label, the surest of those that overlap."""
    nearest = view.iou.max(axis=0, initial=0.0)
    free = (nearest < FOUND) & ~np.isin(np.arange(len(view.found)), list(view.pairs.values()))
    boxes_xyxy = xywh_to_xyxy(np.array([prediction["bbox"] for prediction in view.predictions], float).reshape(-1, 4))
    kept: list[int] = []
    for column in sorted(np.flatnonzero(free).tolist(), key=lambda column: (-view.sure[column], column)):
        if not (pairwise_iou_xyxy(boxes_xyxy[[column]], boxes_xyxy[kept]) >= FOUND).any():
            kept.append(column)
            name = known.names[int(view.found[column])]
            reason = f"a {name} is found here (score {_score(view, column)}), and none is labelled"
            yield Claim("missing_box", float(view.sure[column] * (1 - nearest[column])), None, column, name, reason)


def _about_states(view: View, known: Knowledge, probabilities: NDArray[np.floating[Any]]) -> Iterator[Claim]:
    for row, annotation in enumerate(view.annotations):
        given = annotation["state"]
        if given:
            other = int(probabilities[row].argmax()) + 1
            margin = float(probabilities[row, other - 1] - probabilities[row, given - 1])
            reason = (f"labelled {known.states[given]}, looks {known.states[other]} "
                      f"({probabilities[row, other - 1]:.2f} against {probabilities[row, given - 1]:.2f})")  # fmt: skip
            yield Claim("wrong_state", margin, row, None, known.states[other], reason)


def _score(view: View, column: int) -> str:
    return f"{view.predictions[column]['score']:.2f}"


def _suspect(split: str, view: View, known: Knowledge, claim: Claim) -> Suspect:
    detection = None if claim.column is None else view.predictions[claim.column]
    annotation = view.annotations[claim.row] if claim.row is not None else {}
    thing: Any = annotation or detection
    return Suspect(
        split=split,
        file=view.image["file_name"],
        kind=claim.kind,
        score=round(claim.score, 5),
        label=known.names[thing["category_id"]],
        state=known.states[thing["state"]],
        bbox=tuple(float(value) for value in thing["bbox"]),
        annotation=annotation.get("id", 0),
        suggestion=claim.suggestion,
        reason=claim.reason,
        content=view.image.get("content", ""),
        found=None if detection is None else tuple(detection["bbox"]),
    )


def without_decided(suspects: Sequence[Suspect], decisions: Sequence[Decision]) -> list[Suspect]:
    """Those that no reviewer has decided about: of that kind, in that image, about there."""
    of_kind: dict[tuple[str, str], list[Decision]] = {}
    for decision in decisions:
        of_kind.setdefault((decision.kind, decision.content or decision.file), []).append(decision)
    return [
        suspect
        for suspect in suspects
        if not any(
            _is_near(suspect, decision)
            for image in (suspect.content, suspect.file)
            for decision in of_kind.get((suspect.kind, image), [])
        )
    ]


def _is_near(suspect: Suspect, decision: Decision) -> bool:
    box = xywh_to_xyxy(np.array([suspect.bbox]))
    return bool((pairwise_iou_xyxy(box, np.array([decision.xyxy, new_xyxy(decision)])) >= NEAR_IOU).any())


def rows_of(suspects: Iterable[Suspect]) -> list[dict[str, str]]:
    """By COLUMNS, in the order given; an annotation of 0 is left empty."""
    rows = []
    for item in suspects:
        box = [f"{value:.12g}" for value in item.bbox]
        about = [item.split, item.file, item.kind, f"{item.score:.5f}", item.label, item.state]
        annotation = str(item.annotation) if item.annotation else ""
        values = [*about, *box, annotation, item.suggestion, item.reason, item.content]
        rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


def write_suspects(path: Path, suspects: Iterable[Suspect]) -> None:
    """A CSV file with COLUMNS, a suspect a line."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows_of(suspects))
