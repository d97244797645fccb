"""What a reviewer decided about labels that looked wrong: data/decisions.csv, read back by preprocess and evaluate.

Its columns are those of metrics/evaluate/suspects.csv and one more, `decision`, so that a line of one can be
copied into the other:

    accept   the label is right; it is not listed again
    fix      do what `suggestion` says: the class (wrong_class, missing_box), the state (wrong_state), the box as
             `left top width height` in pixels (bad_location), or `remove` (spurious_box, duplicate_box)
    ignore   nobody can say; the box becomes a region that is neither right nor wrong to find (COCO's crowd)
"""

from __future__ import annotations

import csv
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from detector.core.boxes import pairwise_iou_xyxy
from detector.core.errors import UserError
from detector.manifest.manifest import CleanBox, CleanImage, Labels

KINDS = ("missing_box", "wrong_class", "bad_location", "wrong_state", "spurious_box", "duplicate_box")
DECISIONS = ("accept", "fix", "ignore")
REQUIRED = ("file", "kind", "class", "left", "top", "width", "height", "decision")
KNOWN = (*REQUIRED, "content", "state", "suggestion", "split", "score", "annotation", "reason", "note")
REMOVE = "remove"
SAME_IOU = 0.9  # of a decision's box and a label's, that they are the same box
NEAR_IOU = 0.5  # of a decision's box and a suspect's, that they are about the same object
LARGEST = 1e6  # pixels that an image may be wide or high

XYXY = tuple[float, float, float, float]


class Decision(NamedTuple):
    """A line of the file. where: `path:line`; content: hash of the image, may be empty: then `file` names it."""

    where: str
    file: str
    content: str
    kind: str
    label: str
    state: str
    xyxy: XYXY
    decision: str
    suggestion: str

    @property
    def image(self) -> str:
        """What names the image: its content, which holds under any name, or else its file."""
        return self.content or self.file


def read_decisions(path: Path) -> list[Decision]:
    """The decisions of a CSV file with a header, in its order; columns in any order, empty lines are passed over.

    Raises UserError naming the line that cannot be understood.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            _check_header(header, path)
            return [_decision(header, row, f"{path}:{reader.line_num}") for row in reader if any(row)]
    except FileNotFoundError:
        raise UserError(f"{path} is missing; restore it (`git checkout {path}`) or write its header alone") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not a CSV file in UTF-8 ({error})") from None


def _check_header(header: list[str], path: Path) -> None:
    missing = [name for name in REQUIRED if name not in header]
    unknown = [name for name in header if name not in KNOWN]
    doubled = [name for name, count in Counter(header).items() if count > 1]
    if missing or unknown or doubled:
        wrong = [f"{word} {', '.join(map(repr, names))}" for word, names in
                 (("lacks", missing), ("has the unknown", unknown), ("repeats", doubled)) if names]  # fmt: skip
        raise UserError(f"{path}:1: the header {' and '.join(wrong)}; it may have {', '.join(KNOWN)}")


def _decision(header: list[str], row: list[str], where: str) -> Decision:
    if len(row) > len(header):
        raise UserError(f"{where}: {len(row)} cells, but the header has {len(header)} columns")
    cells = dict.fromkeys(KNOWN, "") | {name: cell.strip() for name, cell in zip(header, row, strict=False)}
    for name, choices in (("kind", KINDS), ("decision", DECISIONS)):
        if cells[name] not in choices:
            raise UserError(f"{where}: {name} is {cells[name]!r}; expected {', '.join(choices)}")
    if not (cells["file"] or cells["content"]):
        raise UserError(f"{where}: neither file nor content says which image is meant")
    xyxy = _box([cells[name] for name in ("left", "top", "width", "height")], where)
    decision = Decision(where, cells["file"], cells["content"], cells["kind"], cells["class"], cells["state"], xyxy,
                        cells["decision"], cells["suggestion"])  # fmt: skip
    if decision.decision == "fix":
        _check_suggestion(decision)
    return decision


def _box(cells: Sequence[str], where: str) -> XYXY:
    """Left, top, width and height as text -> left, top, right, bottom."""
    try:
        left, top, width, height = (float(cell) for cell in cells)
    except ValueError:
        left = top = width = height = math.nan
    if not (all(abs(value) < LARGEST for value in (left, top, width, height)) and min(width, height) > 0):
        raise UserError(f"{where}: the box is {' '.join(cells)!r}; expected left, top, width and height in pixels")
    return left, top, left + width, top + height


def _check_suggestion(decision: Decision) -> None:
    if decision.kind == "bad_location":
        _box(decision.suggestion.split(), f"{decision.where}: suggestion")
    elif decision.kind in ("spurious_box", "duplicate_box"):
        if decision.suggestion != REMOVE:
            raise UserError(f"{decision.where}: suggestion is {decision.suggestion!r}; expected {REMOVE!r}, or give "
                            "another kind, such as wrong_class, to change the label")  # fmt: skip
    elif not decision.suggestion:
        raise UserError(f"{decision.where}: nothing in suggestion says what the fix is")


def follow_decisions(
    images: Sequence[CleanImage], decisions: Sequence[Decision], labels: Labels
) -> tuple[list[CleanImage], list[Decision]]:
    """The images with their labels as decided, and the decisions that match no label of any image.

    A decision by content is about all images of that content. Raises UserError as `_follow_in` does.
    """
    about: dict[str, list[Decision]] = {}
    for decision in decisions:
        about.setdefault(decision.image, []).append(decision)
    decided: list[CleanImage] = []
    matched: set[str] = set()
    for image in images:
        names = dict.fromkeys((image.content, image.image, image.source))
        mine = [decision for name in names for decision in about.get(name, [])]
        if mine:
            image, followed = _follow_in(image, mine, labels)
            matched |= {decision.where for decision in followed}
        decided.append(image)
    return decided, [decision for decision in decisions if decision.where not in matched]


def _follow_in(image: CleanImage, decisions: Sequence[Decision], labels: Labels) -> tuple[CleanImage, list[Decision]]:
    """One image with its labels as decided, and those of `decisions`, all about it, that match a label.

    All are matched with the labels as they were. Raises UserError when one names an unknown class or state or a
    box outside the image, or two contradict each other.
    """
    boxes: list[CleanBox | None] = list(image.boxes)
    added: list[CleanBox] = []
    followed: list[Decision] = []
    for decision in decisions:
        missing = decision.kind == "missing_box"
        place = _label_of(decision, image.boxes, NEAR_IOU if missing else SAME_IOU)
        if (place is None) != missing:
            continue  # there is no such label, or the missing one has been drawn since
        again = _earlier(decision, followed)
        followed.append(decision)
        if again or decision.decision == "accept":
            continue
        if place is None:
            added.append(_new_box(decision, image, labels))
        elif (before := boxes[place]) is not None:
            boxes[place] = _changed(before, decision, image, labels)
    kept = (*(box for box in boxes if box is not None), *added)
    return replace(image, boxes=kept), followed


def _earlier(decision: Decision, others: Sequence[Decision]) -> bool:
    """Whether one of the others says the same about the same label; UserError when it says something else."""
    least = NEAR_IOU if decision.kind == "missing_box" else SAME_IOU
    for other in others:
        if (other.kind, other.label) == (decision.kind, decision.label) and _iou(other.xyxy, decision.xyxy) >= least:
            if (other.decision, other.suggestion) != (decision.decision, decision.suggestion):
                raise UserError(f"{decision.where}: decides otherwise than {other.where} about the same label")
            return True
    return False


def _iou(first: XYXY, second: XYXY) -> float:
    return float(pairwise_iou_xyxy(np.array([first]), np.array([second]))[0, 0])


def _label_of(decision: Decision, boxes: Sequence[CleanBox], least: float) -> int | None:
    """Place of the label of that class that the decision's box overlaps most, by at least `least`."""
    same = [place for place, box in enumerate(boxes) if box.label == decision.label and not box.iscrowd]
    if not same:
        return None
    ious = pairwise_iou_xyxy(np.array([decision.xyxy]), np.array([boxes[place].xyxy for place in same]))[0]
    return same[int(ious.argmax())] if ious.max() >= least else None


def _changed(box: CleanBox, decision: Decision, image: CleanImage, labels: Labels) -> CleanBox | None:
    if decision.decision == "ignore":
        return replace(box, iscrowd=True)
    if decision.kind == "wrong_class":
        return replace(box, label=_known(decision.suggestion, labels.classes, "class", decision))
    if decision.kind == "wrong_state":
        return replace(box, state=_known(decision.suggestion, labels.states, "state", decision))
    if decision.kind == "bad_location":
        return replace(box, xyxy=_inside(new_xyxy(decision), image, decision))
    return None


def _new_box(decision: Decision, image: CleanImage, labels: Labels) -> CleanBox:
    """A box that was missing: of the suggested class when it is fixed, of the found one where it is ignored."""
    ignored = decision.decision == "ignore"
    name = _known(decision.label if ignored else decision.suggestion, labels.classes, "class", decision)
    state = _known(decision.state, labels.states, "state", decision) if decision.state else None
    return CleanBox(name, _inside(decision.xyxy, image, decision), state, None, ignored)


def new_xyxy(decision: Decision) -> XYXY:
    """Where the box of a decision lies when it has been followed."""
    if decision.kind == "bad_location" and decision.decision == "fix":
        return _box(decision.suggestion.split(), decision.where)
    return decision.xyxy


def _known(name: str, names: list[str], what: str, decision: Decision) -> str:
    if name not in names:
        raise UserError(f"{decision.where}: {name!r} is no {what} of the dataset; it has {', '.join(names) or 'none'}")
    return name


def _inside(xyxy: XYXY, image: CleanImage, decision: Decision) -> XYXY:
    left, top = round(max(0.0, xyxy[0]), 3), round(max(0.0, xyxy[1]), 3)
    right, bottom = round(min(float(image.width), xyxy[2]), 3), round(min(float(image.height), xyxy[3]), 3)
    if not (left < right and top < bottom):
        size = f"{image.width} x {image.height} pixels"
        raise UserError(f"{decision.where}: the box covers nothing of {image.image}, which has {size}")
    return left, top, right, bottom
