"""The rules of preprocess: which boxes stay, which are repaired, which are dropped, and why."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Literal, NamedTuple

import numpy as np
from pydantic import Field

from detector.core.boxes import pairwise_iou_xyxy
from detector.core.errors import UserError
from detector.core.params import Section
from detector.manifest.manifest import CleanBox, Labels
from detector.preprocessing.raw_annotations import RawBox, RawImage

# A normalized coordinate beyond these is no slip of the hand but another unit (pixels, per cent).
NORMALIZED_RANGE = (-0.5, 1.5)


class PreprocessParams(Section):
    """`preprocess:` of params.yaml, where every key is explained."""

    dataset: str
    format: Literal["jsonl", "parts", "coco", "voc", "yolo", "archive"]
    classes: list[str] | None = None
    states: list[str] | None = None
    trust_threshold: float = Field(ge=0, le=1)
    min_box_size: float = Field(ge=0)
    duplicate_iou: float = Field(gt=0, le=1)
    near_duplicate: float = Field(gt=0)
    on_error: Literal["drop", "stop"]
    executor: Literal["threads", "processes", "dask"] = "threads"
    dask_scheduler: str | None = None


class Finding(NamedTuple):
    """Something that was dropped or repaired. where: place in the annotations; image: path there."""

    reason: str
    where: str
    image: str
    detail: str


def labels_of(images: Iterable[RawImage], params: PreprocessParams) -> Labels:
    """The classes and states: those that params name, in that order, otherwise all that occur, sorted.

    A dataset without states has none, whatever params name.
    Raises UserError when a name that params list occurs nowhere.
    """
    found_classes: Counter[str] = Counter()
    found_states: Counter[str] = Counter()
    for image in images:
        for box in image.boxes:
            found_classes[box.label] += 1
            if box.state is not None:
                found_states[box.state] += 1
    return Labels(_wanted("classes", params.classes, found_classes), _wanted("states", params.states, found_states))


def _wanted(key: str, wanted: list[str] | None, found: Counter[str]) -> list[str]:
    if wanted is None or (key == "states" and not found):
        return sorted(found)
    if len(set(wanted)) != len(wanted):
        raise UserError(f"params.yaml: `preprocess.{key}` names something twice: {wanted}")
    if found and not set(wanted) & set(found):
        raise UserError(
            f"params.yaml: no name of `preprocess.{key}` {wanted} occurs in the dataset; "
            f"it has {sorted(found)}. Use null to take them all."
        )
    # Classes that do not occur are an error: a detector cannot learn them. States may be rare.
    missing = sorted(set(wanted) - set(found)) if key == "classes" else []
    if missing:
        raise UserError(
            f"params.yaml: `preprocess.classes` names {missing}, which do not occur; it has {sorted(found)}"
        )
    return wanted


def clean_boxes(
    image: RawImage, width: int, height: int, labels: Labels, params: PreprocessParams
) -> tuple[tuple[CleanBox, ...], list[Finding]]:
    """The boxes of one image of `width` x `height` pixels that can be used, and what was found wrong."""
    kept: list[CleanBox] = []
    findings: list[Finding] = []
    for number, raw in enumerate(image.boxes, 1):
        box, reasons = _clean_box(raw, image.normalized, width, height, labels, params)
        detail = f"box {number}: {raw.label} {_show(raw.xyxy)}"
        findings += [Finding(reason, image.where, image.path, detail) for reason in reasons]
        if box is not None:
            kept.append(box)
    unique, doubled = _without_doubles(kept, params.duplicate_iou)
    for box in doubled:
        detail = f"{box.label} {_show(box.xyxy)}"
        findings.append(Finding("same-class duplicate box, dropped", image.where, image.path, detail))
    return unique, findings


def _clean_box(
    raw: RawBox, normalized: bool, width: int, height: int, labels: Labels, params: PreprocessParams
) -> tuple[CleanBox | None, list[str]]:
    if raw.label not in labels.classes:
        return None, ["label not in classes, box left out"]
    if not all(math.isfinite(value) for value in raw.xyxy):
        return None, ["coordinate not finite, box dropped"]
    low, high = NORMALIZED_RANGE
    if normalized and not all(low <= value <= high for value in raw.xyxy):
        return None, ["normalized coordinate far outside 0..1, box dropped"]
    if raw.trust is not None and not raw.trust >= params.trust_threshold:
        return None, ["trust below threshold, box left out"]
    scale = (width, height) * 2 if normalized else (1.0,) * 4
    left, top, right, bottom = (value * factor for value, factor in zip(raw.xyxy, scale, strict=True))
    if not (left < right and top < bottom):
        return None, ["box without area, dropped"]
    clipped = (
        round(min(max(left, 0.0), float(width)), 3),
        round(min(max(top, 0.0), float(height)), 3),
        round(min(max(right, 0.0), float(width)), 3),
        round(min(max(bottom, 0.0), float(height)), 3),
    )
    size = round(min(clipped[2] - clipped[0], clipped[3] - clipped[1]), 3)
    if size <= 0:
        beside = left >= width or top >= height or right <= 0 or bottom <= 0
        return None, ["box wholly outside the image, dropped" if beside else "box without area, dropped"]
    if size < params.min_box_size:
        return None, ["box smaller than min_box_size, left out"]
    reasons = []
    if max(abs(a - b) for a, b in zip(clipped, (left, top, right, bottom), strict=True)) > 0.5:
        reasons.append("box outside the image, clipped")
    state = raw.state
    if state is not None and state not in labels.states:
        state = None
        reasons.append("state unknown, box kept without a state")
    return CleanBox(raw.label, clipped, state, raw.trust, raw.iscrowd), reasons


def _without_doubles(boxes: list[CleanBox], iou: float) -> tuple[tuple[CleanBox, ...], list[CleanBox]]:
    """Of same-class boxes that overlap by more than `iou`, the most trusted (then the first) stays."""
    if len(boxes) < 2:
        return tuple(boxes), []
    boxes_xyxy = np.array([box.xyxy for box in boxes])
    labels = np.array([box.label for box in boxes])
    single = np.array([not box.iscrowd for box in boxes])
    double = pairwise_iou_xyxy(boxes_xyxy, boxes_xyxy) > iou
    double &= (labels[:, None] == labels) & single[:, None] & single
    np.fill_diagonal(double, False)
    dropped: set[int] = set()
    for index in sorted(set(double.nonzero()[0].tolist()), key=lambda index: (-(boxes[index].trust or 0.0), index)):
        if index not in dropped:
            dropped.update(double[index].nonzero()[0].tolist())
    kept = tuple(box for index, box in enumerate(boxes) if index not in dropped)
    return kept, [boxes[index] for index in sorted(dropped)]


def _show(xyxy: tuple[float, ...]) -> str:
    return "[" + ", ".join(f"{value:.6g}" for value in xyxy) + "]"
