"""Label errors that are planted in the sample are found by a detector that was trained on the wrong labels."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.workspace import commit_params, copy_code, run_python
from detector.core.boxes import pairwise_iou_xyxy
from detector.core.yaml_files import parse_yaml
from detector.manifest.decisions import KINDS
from detector.manifest.manifest import CleanBox, CleanImage, Labels, read_labels, read_manifest, write_manifest

SHARE = 0.05  # fraction of the boxes that get an error, per kind; a box has at most one
LISTED = 0.10  # length of the list that is read per kind, as a fraction of the boxes
MIN_RECALL = 0.70
IOU_RANGES = {"bad_location": (0.3, 0.7), "duplicate_box": (0.6, 0.9)}  # with the true box
MIN_IOU = {"missing_box": 0.5, "duplicate_box": 0.5}  # of an entry with the planted box; other kinds: the same box
XYXY = tuple[float, float, float, float]


class LabelError(NamedTuple):
    """A planted or listed error; xyxy in pixels."""

    image: str
    kind: str
    xyxy: XYXY


@pytest.mark.long
def test_most_planted_label_errors_are_listed(tmp_path: Path) -> None:
    copy_code(tmp_path)
    (tmp_path / "split.lock").touch()
    run_python(tmp_path, "tools/sample_data.py", "--out", "data/raw/sample", "--images", "200")
    run_python(tmp_path, "stages/preprocess.py")
    manifest = tmp_path / "data/clean/manifest.jsonl"
    labels = read_labels(tmp_path / "data/clean/labels.json")
    params = parse_yaml((tmp_path / "params.yaml").read_text(encoding="utf-8"))
    images, planted = plant_errors(list(read_manifest(manifest)), labels, params["coco_convert"]["absent_states"])
    write_manifest(manifest, images)
    commit_params(tmp_path)
    for stage in ("split", "coco_convert", "train", "evaluate"):
        run_python(tmp_path, f"stages/{stage}.py")
    boxes = sum(len(image.boxes) for image in images)
    listed = read_issues(tmp_path / "metrics/evaluate/label_issues.csv")
    recalls = {}
    for kind in KINDS:
        top = [issue for issue in listed if issue.kind == kind][: round(LISTED * boxes)]
        errors = [error for error in planted if error.kind == kind]
        recalls[kind] = sum(any(is_same(error, issue) for issue in top) for error in errors) / len(errors)
    assert all(recall >= MIN_RECALL for recall in recalls.values()), recalls


def plant_errors(
    images: list[CleanImage], labels: Labels, absent_states: Sequence[str]
) -> tuple[list[CleanImage], list[LabelError]]:
    """The images with errors of each kind in SHARE of their boxes, and the errors."""
    rng = np.random.default_rng(0)
    boxes: list[list[CleanBox | None]] = [list(image.boxes) for image in images]
    candidates = [(row, place) for row, image in enumerate(images) for place in range(len(image.boxes))]
    count = round(SHARE * len(candidates))
    free = [candidates[index] for index in rng.permutation(len(candidates))]
    planted: list[LabelError] = []
    for kind in KINDS:
        while sum(error.kind == kind for error in planted) < count:
            # Only wrong states concern absent objects too: a detector should not find these.
            index = next(
                index
                for index, (row, place) in enumerate(free)
                if kind == "wrong_state" or images[row].boxes[place].state not in absent_states
            )
            row, place = free.pop(index)
            box = images[row].boxes[place]
            wrong = make_wrong_box(kind, images[row], box, labels, rng)
            if kind == "missing_box":
                boxes[row][place] = None
            elif wrong is None:
                continue
            elif kind in ("spurious_box", "duplicate_box"):
                boxes[row].append(wrong)
            else:
                boxes[row][place] = wrong
            planted.append(LabelError(images[row].image, kind, (wrong or box).xyxy))
    changed = [
        replace(image, boxes=tuple(box for box in kept if box is not None))
        for image, kept in zip(images, boxes, strict=True)
    ]
    return changed, planted


def make_wrong_box(
    kind: str, image: CleanImage, box: CleanBox, labels: Labels, rng: np.random.Generator
) -> CleanBox | None:
    """The wrong label made of a box, or added to it; None for a missing box or when there is no way."""
    if kind == "wrong_class":
        return replace(box, label=str(rng.choice([name for name in labels.classes if name != box.label])))
    if kind == "wrong_state" and box.state:
        return replace(box, state=str(rng.choice([name for name in labels.states if name != box.state])))
    true = np.array(box.xyxy)
    size = np.tile(true[2:] - true[:2], 2)
    limits = np.array([image.width, image.height] * 2)
    for _ in range(200):
        if kind in IOU_RANGES:
            xyxy = true + rng.uniform(-0.5, 0.5, 4) * size
        elif kind == "spurious_box":
            xyxy = np.tile(rng.uniform(0, limits[:2] - size[:2]), 2) + size * [0, 0, 1, 1]
        else:
            return None
        left, top, right, bottom = xyxy.clip(0, limits).round(3).tolist()
        moved = replace(box, xyxy=(left, top, right, bottom))
        low, high = IOU_RANGES.get(kind, (0.0, 0.05))
        others = [box.xyxy] if kind in IOU_RANGES else [other.xyxy for other in image.boxes]
        if low <= compute_ious(moved.xyxy, others).max() <= high:
            return moved if kind in IOU_RANGES else replace(moved, label=str(rng.choice(labels.classes)))
    return None


def compute_ious(xyxy: XYXY, others: Sequence[XYXY]) -> NDArray[np.float64]:
    """IoU [N] of a box with N others."""
    ious: NDArray[np.float64] = pairwise_iou_xyxy(np.array([xyxy]), np.array(others).reshape(-1, 4))[0]
    return ious


def read_issues(path: Path) -> list[LabelError]:
    """The list of suspected errors, worst first."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    issues = []
    for row in rows:
        left, top, width, height = (float(row[name]) for name in ("left", "top", "width", "height"))
        issues.append(LabelError(row["file"], row["kind"], (left, top, left + width, top + height)))
    return issues


def is_same(error: LabelError, issue: LabelError) -> bool:
    """Whether an entry of the list is a planted error; of two duplicates either may be listed."""
    if (error.image, error.kind) != (issue.image, issue.kind):
        return False
    return bool(compute_ious(error.xyxy, [issue.xyxy])[0] >= MIN_IOU.get(error.kind, 0.99))
