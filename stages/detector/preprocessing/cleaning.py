"""The rules of preprocess: which boxes are kept, repaired or dropped, and why."""

from __future__ import annotations

import itertools
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from detector.core.boxes import iou_xyxy
from detector.core.errors import UserError
from detector.manifest.manifest import CleanBox, Labels
from detector.preprocessing.findings import Finding, FindingKind
from detector.preprocessing.raw_annotations import RawBox, RawImage
from detector.preprocessing.settings import PreprocessParams

# Normalized coordinates outside this range are not sloppy labels but another unit (pixels, percent).
NORMALIZED_RANGE = (-0.5, 1.5)


def collect_labels(images: Iterable[RawImage], params: PreprocessParams) -> Labels:
    """The classes and states: those listed in `params`, in that order, or all found, sorted.

    A dataset without states has none, whatever `params.states` lists. Raises UserError when a listed class does not
    occur, or no listed state does.
    """
    found_classes: Counter[str] = Counter()
    found_states: Counter[str] = Counter()
    for image in images:
        for box in image.boxes:
            found_classes[box.label] += 1
            if box.state is not None:
                found_states[box.state] += 1
    return Labels(
        _select_names("classes", params.classes, found_classes), _select_names("states", params.states, found_states)
    )


def _select_names(key: str, listed: list[str] | None, found: Counter[str]) -> list[str]:
    if listed is None or (key == "states" and not found):
        return sorted(found)
    if len(set(listed)) != len(listed):
        raise UserError(f"params.yaml: `preprocess.{key}` is {listed}, which contains duplicates; list each name once")
    if found and not set(listed) & set(found):
        raise UserError(
            f"params.yaml: `preprocess.{key}` is {listed}, but the dataset has only {sorted(found)}; "
            "use null for all of them"
        )
    # A class that does not occur is an error: a detector cannot learn it. A state may be rare.
    missing = sorted(set(listed) - set(found)) if key == "classes" else []
    if missing:
        raise UserError(
            f"params.yaml: `preprocess.classes` lists {missing}, which the dataset does not have; "
            f"it has {sorted(found)}"
        )
    return listed


def clean_boxes(
    image: RawImage, width: int, height: int, labels: Labels, params: PreprocessParams
) -> tuple[tuple[CleanBox, ...], list[Finding]]:
    """The usable boxes of an image of `width` x `height` pixels, and the findings about its boxes."""
    boxes: list[CleanBox] = []
    numbers: list[int] = []
    findings: list[Finding] = []
    for number, raw in enumerate(image.boxes, 1):
        box, kinds = _clean_box(raw, image.normalized, (width, height), labels, params)
        findings += [Finding(kind, image.where, image.path, number, _describe_box(raw, kind)) for kind in kinds]
        if box is not None:
            boxes.append(box)
            numbers.append(number)
    duplicates = _find_duplicate_boxes(boxes, params.duplicate_iou)
    for index in sorted(duplicates):
        details = f"{boxes[index].label} {_format_xyxy(boxes[index].xyxy)}"
        findings.append(Finding(FindingKind.DUPLICATE_BOX, image.where, image.path, numbers[index], details))
    return tuple(box for index, box in enumerate(boxes) if index not in duplicates), findings


def _clean_box(
    raw: RawBox, normalized: bool, size: tuple[int, int], labels: Labels, params: PreprocessParams
) -> tuple[CleanBox | None, list[FindingKind]]:
    """The box in pixels, clipped to its image, or None when it cannot be used; and what was found."""
    if raw.label not in labels.classes:
        return None, [FindingKind.UNSELECTED_CLASS]
    if not all(math.isfinite(value) for value in raw.xyxy):
        return None, [FindingKind.NON_FINITE_BOX]
    low, high = NORMALIZED_RANGE
    if normalized and not low <= min(raw.xyxy) <= max(raw.xyxy) <= high:
        return None, [FindingKind.COORDINATE_OUT_OF_RANGE]
    if raw.trust is not None and not raw.trust >= params.min_trust:  # NaN is excluded, too
        return None, [FindingKind.LOW_TRUST]
    width, height = size
    x_scale, y_scale = (width, height) if normalized else (1.0, 1.0)
    left, top, right, bottom = raw.xyxy
    left, top, right, bottom = left * x_scale, top * y_scale, right * x_scale, bottom * y_scale
    if not (left < right and top < bottom):
        return None, [FindingKind.EMPTY_BOX]
    clipped = (
        round(min(max(left, 0.0), float(width)), 3),
        round(min(max(top, 0.0), float(height)), 3),
        round(min(max(right, 0.0), float(width)), 3),
        round(min(max(bottom, 0.0), float(height)), 3),
    )
    shorter_side = round(min(clipped[2] - clipped[0], clipped[3] - clipped[1]), 3)
    if shorter_side <= 0:
        outside = left >= width or top >= height or right <= 0 or bottom <= 0
        return None, [FindingKind.BOX_OUTSIDE_IMAGE if outside else FindingKind.EMPTY_BOX]
    if shorter_side < params.min_box_size:
        return None, [FindingKind.SMALL_BOX]
    kinds = []
    if max(abs(a - b) for a, b in zip(clipped, (left, top, right, bottom), strict=True)) > 0.5:
        kinds.append(FindingKind.BOX_CLIPPED)
    state = raw.state
    if state is not None and state not in labels.states:
        state = None
        kinds.append(FindingKind.UNKNOWN_STATE)
    return CleanBox(raw.label, clipped, state, raw.trust, raw.iscrowd), kinds


def _find_duplicate_boxes(boxes: Sequence[CleanBox], max_iou: float) -> set[int]:
    """Indices of the boxes to drop: of two boxes of a class with a higher IoU, the less trusted or later one."""
    overlapping: dict[int, list[int]] = defaultdict(list)
    by_left = sorted(range(len(boxes)), key=lambda index: boxes[index].xyxy[0])
    for place, first in enumerate(by_left, 1):
        box = boxes[first]
        for second in itertools.islice(by_left, place, None):
            other = boxes[second]
            if other.xyxy[0] >= box.xyxy[2]:
                break
            is_single = not (box.iscrowd or other.iscrowd)
            if is_single and box.label == other.label and iou_xyxy(box.xyxy, other.xyxy) > max_iou:
                overlapping[first].append(second)
                overlapping[second].append(first)
    dropped: set[int] = set()
    for index in sorted(overlapping, key=lambda index: (-(boxes[index].trust or 0.0), index)):
        if index not in dropped:
            dropped.update(overlapping[index])
    return dropped


def _describe_box(raw: RawBox, kind: FindingKind) -> str:
    """Label and coordinates as annotated, and the value that the finding is about."""
    details = f"{raw.label} {_format_xyxy(raw.xyxy)}"
    if kind is FindingKind.LOW_TRUST:
        return f"{details}, trust {raw.trust}"
    return f"{details}, state {raw.state}" if kind is FindingKind.UNKNOWN_STATE else details


def _format_xyxy(xyxy: tuple[float, ...]) -> str:
    return "[" + ", ".join(f"{value:.6g}" for value in xyxy) + "]"
