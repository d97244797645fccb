"""A reviewer's decisions about suspected label errors: data/decisions.csv, read by preprocess and evaluate.

Its columns are those of metrics/evaluate/label_issues.csv plus `decision`, so a row can be copied from there:

    accept   the label is correct; it is not listed again
    fix      apply `suggestion`: the class (wrong_class, missing_box), the state (wrong_state), the box as
             `left top width height` in pixels (bad_location), or `remove` (spurious_box, duplicate_box)
    ignore   ambiguous; the box becomes an ignore region (COCO's iscrowd), where detections count neither way
"""

from __future__ import annotations

import csv
import io
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from detector.core.boxes import XYXY, iou_xyxy, pairwise_iou_xyxy
from detector.core.errors import UserError
from detector.core.input_files import read_text
from detector.core.text_output import parse_cell
from detector.manifest.manifest import CleanBox, CleanImage, Labels

KINDS = ("missing_box", "wrong_class", "bad_location", "wrong_state", "spurious_box", "duplicate_box")
DECISIONS = ("accept", "fix", "ignore")
REQUIRED_COLUMNS = ("file", "kind", "class", "left", "top", "width", "height", "decision")
COLUMNS = (*REQUIRED_COLUMNS, "content", "state", "suggestion", "split", "score", "annotation", "reason", "note")
REMOVE = "remove"
SAME_BOX_IOU = 0.9  # minimum IoU of a decision's box and a label's for the same box
SAME_OBJECT_IOU = 0.5  # minimum IoU of a decision's box and a label issue's for the same object
MAX_COORDINATE = 1e6  # pixels
_MAX_BYTES = 256 << 20  # of the file


class Decision(NamedTuple):
    """One row. where: `path:line`; content: hash of the image, or empty if `file` names it."""

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
        """The image's key: its content hash, which survives renaming, or else its file."""
        return self.content or self.file


def read_decisions(path: Path) -> list[Decision]:
    """The decisions of a CSV file with a header, in file order; columns in any order, empty lines are skipped.

    Raises UserError naming the line that is invalid.
    """
    try:
        text = read_text(path, _MAX_BYTES).removeprefix("\ufeff")
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        header = next(reader, [])
        _check_header(header, path)
        return [_parse_row(header, row, f"{path}:{reader.line_num}") for row in reader if any(row)]
    except FileNotFoundError:
        raise UserError(f"{path} is missing; restore it with `git checkout {path}`") from None
    except csv.Error as error:
        raise UserError(f"{path}: not a UTF-8 CSV file ({error})") from None


def _check_header(header: list[str], path: Path) -> None:
    missing = [name for name in REQUIRED_COLUMNS if name not in header]
    unknown = [name for name in header if name not in COLUMNS]
    repeated = [name for name, count in Counter(header).items() if count > 1]
    problems = [
        f"{problem} columns {', '.join(map(repr, names))}"
        for problem, names in (("missing", missing), ("unknown", unknown), ("repeated", repeated))
        if names
    ]
    if problems:
        raise UserError(f"{path}:1: {'; '.join(problems)}; the valid columns are {', '.join(COLUMNS)}")


def _parse_row(header: list[str], row: list[str], where: str) -> Decision:
    if len(row) > len(header):
        raise UserError(f"{where}: {len(row)} values, but the header has {len(header)} columns")
    cells = dict.fromkeys(COLUMNS, "") | {
        name: parse_cell(cell.strip()) for name, cell in zip(header, row, strict=False)
    }
    for name, choices in (("kind", KINDS), ("decision", DECISIONS)):
        if cells[name] not in choices:
            raise UserError(f"{where}: {name} is {cells[name]!r}; expected {', '.join(choices)}")
    if not (cells["file"] or cells["content"]):
        raise UserError(f"{where}: file and content are both empty: no image is named")
    xyxy = _parse_box([cells[name] for name in ("left", "top", "width", "height")], where)
    decision = Decision(
        where=where,
        file=cells["file"],
        content=cells["content"],
        kind=cells["kind"],
        label=cells["class"],
        state=cells["state"],
        xyxy=xyxy,
        decision=cells["decision"],
        suggestion=cells["suggestion"],
    )
    if decision.decision == "fix":
        _check_suggestion(decision)
    return decision


def _parse_box(cells: Sequence[str], where: str) -> XYXY:
    """(left, top, width, height) as text -> (left, top, right, bottom)."""
    try:
        left, top, width, height = (float(cell) for cell in cells)
    except ValueError:
        left = top = width = height = math.nan
    if not (all(abs(value) < MAX_COORDINATE for value in (left, top, width, height)) and min(width, height) > 0):
        raise UserError(f"{where}: the box is {' '.join(cells)!r}; expected left, top, width and height in pixels")
    return left, top, left + width, top + height


def _check_suggestion(decision: Decision) -> None:
    if decision.kind == "bad_location":
        _parse_box(decision.suggestion.split(), f"{decision.where}: suggestion")
    elif decision.kind in ("spurious_box", "duplicate_box"):
        if decision.suggestion != REMOVE:
            raise UserError(
                f"{decision.where}: suggestion is {decision.suggestion!r}; expected {REMOVE!r}; to change the label, "
                "use another kind, such as wrong_class"
            )
    elif not decision.suggestion:
        raise UserError(f"{decision.where}: a fix needs a suggestion")


def apply_decisions(
    images: Sequence[CleanImage], decisions: Sequence[Decision], labels: Labels
) -> tuple[list[CleanImage], list[Decision]]:
    """The images with their corrected labels, and the decisions that match no label of any image.

    A decision that names its image by content applies to all images with that content. Raises UserError as
    `_apply_to_image` does.
    """
    by_image: dict[str, list[Decision]] = {}
    for decision in decisions:
        by_image.setdefault(decision.image, []).append(decision)
    corrected: list[CleanImage] = []
    matched: set[str] = set()
    for image in images:
        names = dict.fromkeys((image.content, image.image, image.source))
        relevant = [decision for name in names for decision in by_image.get(name, [])]
        if relevant:
            image, applied = _apply_to_image(image, relevant, labels)
            matched |= {decision.where for decision in applied}
        corrected.append(image)
    return corrected, [decision for decision in decisions if decision.where not in matched]


def _apply_to_image(
    image: CleanImage, decisions: Sequence[Decision], labels: Labels
) -> tuple[CleanImage, list[Decision]]:
    """One image with its corrected labels, and the decisions (all about this image) that match a label.

    All are matched with the original labels. Raises UserError if a decision names an unknown class or state or a box
    outside the image, or if two contradict each other.
    """
    boxes: list[CleanBox | None] = list(image.boxes)
    added: list[CleanBox] = []
    applied: list[Decision] = []
    for decision in decisions:
        missing = decision.kind == "missing_box"
        index = _find_label(decision, image.boxes, SAME_OBJECT_IOU if missing else SAME_BOX_IOU)
        if (index is None) != missing:
            continue  # there is no such label, or the missing one has been added since
        repeated = _repeats_earlier(decision, applied)
        applied.append(decision)
        if repeated or decision.decision == "accept":
            continue
        if index is None:
            added.append(_create_box(decision, image, labels))
        elif (box := boxes[index]) is not None:
            boxes[index] = _edit_box(box, decision, image, labels)
    kept = (*(box for box in boxes if box is not None), *added)
    return replace(image, boxes=kept), applied


def _repeats_earlier(decision: Decision, earlier: Sequence[Decision]) -> bool:
    """Whether an earlier decision about the same label is the same. Raises UserError if it contradicts this one."""
    min_iou = SAME_OBJECT_IOU if decision.kind == "missing_box" else SAME_BOX_IOU
    for other in earlier:
        if (other.kind, other.label) == (decision.kind, decision.label) and iou_xyxy(
            other.xyxy, decision.xyxy
        ) >= min_iou:
            if (other.decision, other.suggestion) != (decision.decision, decision.suggestion):
                raise UserError(f"{decision.where}: contradicts {other.where} about the same label")
            return True
    return False


def _find_label(decision: Decision, boxes: Sequence[CleanBox], min_iou: float) -> int | None:
    """Index of the label of the decision's class with the highest IoU, if that is at least `min_iou`."""
    candidates = [index for index, box in enumerate(boxes) if box.label == decision.label and not box.iscrowd]
    if not candidates:
        return None
    ious = pairwise_iou_xyxy(np.array([decision.xyxy]), np.array([boxes[index].xyxy for index in candidates]))[0]
    return candidates[int(ious.argmax())] if ious.max() >= min_iou else None


def _edit_box(box: CleanBox, decision: Decision, image: CleanImage, labels: Labels) -> CleanBox | None:
    if decision.decision == "ignore":
        return replace(box, iscrowd=True)
    if decision.kind == "wrong_class":
        return replace(box, label=_check_name(decision.suggestion, labels.classes, "class", decision))
    if decision.kind == "wrong_state":
        return replace(box, state=_check_name(decision.suggestion, labels.states, "state", decision))
    if decision.kind == "bad_location":
        return replace(box, xyxy=_clip_to_image(corrected_xyxy(decision), image, decision))
    return None


def _create_box(decision: Decision, image: CleanImage, labels: Labels) -> CleanBox:
    """The missing box: of the suggested class for `fix`, of the predicted class for `ignore`."""
    ignored = decision.decision == "ignore"
    name = _check_name(decision.label if ignored else decision.suggestion, labels.classes, "class", decision)
    state = _check_name(decision.state, labels.states, "state", decision) if decision.state else None
    return CleanBox(name, _clip_to_image(decision.xyxy, image, decision), state, None, ignored)


def corrected_xyxy(decision: Decision) -> XYXY:
    """The decision's box after the decision has been applied."""
    if decision.kind == "bad_location" and decision.decision == "fix":
        return _parse_box(decision.suggestion.split(), decision.where)
    return decision.xyxy


def _check_name(name: str, names: list[str], what: str, decision: Decision) -> str:
    if name not in names:
        raise UserError(
            f"{decision.where}: {name!r} is not a {what} of the dataset; expected {', '.join(names) or 'none'}"
        )
    return name


def _clip_to_image(xyxy: XYXY, image: CleanImage, decision: Decision) -> XYXY:
    left, top = round(max(0.0, xyxy[0]), 3), round(max(0.0, xyxy[1]), 3)
    right, bottom = round(min(float(image.width), xyxy[2]), 3), round(min(float(image.height), xyxy[3]), 3)
    if not (left < right and top < bottom):
        size = f"{image.width} x {image.height} pixels"
        raise UserError(f"{decision.where}: the box lies outside {image.image}, which has {size}")
    return left, top, right, bottom
