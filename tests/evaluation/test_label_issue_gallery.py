"""The picture of the label issues: it shows them, and is byte-identical each time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.evaluation import label_issue_gallery
from detector.evaluation.label_issue_gallery import OTHER_LABELS_COLOR, draw_label_issues
from detector.evaluation.label_issues import LabelIssue
from detector.plotting.box_drawing import StyledBox
from detector.plotting.palette import GROUND_TRUTH_COLOR
from tests.support.packed import pack_labels

PLAIN = LabelIssue("val", "a.png", "spurious_box", 0.9, "bolt", "intact", (40.0, 30.0, 20.0, 10.0), 3, "remove",
                "nothing is detected here", "00ff", None)  # fmt: skip
MISSING = PLAIN._replace(kind="missing_box", annotation=0, bbox=(0.0, 0.0, 8.0, 8.0), detected=(0.0, 0.0, 8.0, 8.0))


OTHER_LABEL, IGNORED_REGION = [70.0, 20.0, 20.0, 30.0], [0.0, 0.0, 100.0, 60.0]


def draw(folder: Path, *issues: LabelIssue) -> Path:
    truth = {"images": [{"id": 1, "file_name": "a.png"}],
             "annotations": [{"image_id": 1, "bbox": [40.0, 30.0, 20.0, 10.0]}, {"image_id": 1, "bbox": OTHER_LABEL},
                             {"image_id": 1, "bbox": IGNORED_REGION, "iscrowd": 1}]}  # fmt: skip
    Image.fromarray(np.full((60, 100, 3), 128, np.uint8)).save(folder / "a.png")
    path = folder / "galleries" / "label_issues.jpg"
    draw_label_issues(issues, [pack_labels(truth)], folder, path)
    return path


def test_without_issues_there_is_a_picture_too(tmp_path: Path) -> None:
    with Image.open(draw(tmp_path)) as picture:
        assert picture.width > 500


def test_more_issues_make_a_taller_picture_and_bytes_are_reproducible(tmp_path: Path) -> None:
    path = draw(tmp_path, *[PLAIN, MISSING] * 3)
    first = path.read_bytes()
    with Image.open(path) as picture:
        six = picture.height
    assert draw(tmp_path, *[PLAIN, MISSING] * 3).read_bytes() == first
    with Image.open(draw(tmp_path, PLAIN)) as picture:
        assert picture.height < six


def test_other_labels_are_those_of_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[StyledBox] = []
    monkeypatch.setattr(label_issue_gallery, "draw_boxes", lambda picture, boxes, font_size: drawn.extend(boxes))
    draw(tmp_path, PLAIN)
    own, other = drawn  # and no ignored region
    assert (own.color, other.color) == (GROUND_TRUTH_COLOR, OTHER_LABELS_COLOR)
