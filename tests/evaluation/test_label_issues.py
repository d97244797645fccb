"""Suspected label errors: each kind alone, a perfect detector, and invariants of any list."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.evaluation.label_issue_table import COLUMNS, write_issue_table
from detector.evaluation.label_issues import (
    MIN_SCORE,
    LabelIssue,
    sort_by_score,
)
from detector.evaluation.reviewed_issues import drop_reviewed
from detector.manifest.decisions import KINDS, REQUIRED_COLUMNS, Decision, read_decisions
from tests.support.packed import find_row_issues

BOLT, RING = 1, 2
INTACT, ABSENT = 1, 2
BOX = [10.0, 10.0, 40.0, 40.0]
OTHER_BOX = [100.0, 10.0, 40.0, 40.0]
IMAGES = 4


def label(image: int, bbox: list[float], category: int = BOLT, state: int = INTACT, **more: Any) -> dict[str, Any]:
    return {
        "image_id": image, "category_id": category, "bbox": bbox, "area": bbox[2] * bbox[3], "state": state,
        "iscrowd": 0, **more,
    }  # fmt: skip


def detection(image: int, bbox: list[float], category: int = BOLT, score: float = 0.9) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": bbox, "score": score, "state": 1, "state_score": 1.0}


def coco(*labels: dict[str, Any]) -> dict[str, Any]:
    names = {"categories": {BOLT: "bolt", RING: "ring"}, "states": {INTACT: "intact", ABSENT: "absent"}}
    return {
        "images": [
            {"id": id_, "file_name": f"{id_}.jpg", "width": 200, "height": 100, "content": f"{id_:04x}"}
            for id_ in range(1, IMAGES + 1)
        ],
        "annotations": [{"id": id_, **one} for id_, one in enumerate(labels, 1)],
        "categories": [{"id": id_, "name": name} for id_, name in names["categories"].items()],
        "states": [{"id": id_, "name": name, "present": id_ == INTACT} for id_, name in names["states"].items()],
    }


# Three images whose labels and detections agree: they set the confidence of correct detections.
CORRECT_LABELS = [
    label(image, box, category) for image in (2, 3, 4) for box, category in ((BOX, BOLT), (OTHER_BOX, RING))
]
CORRECT_DETECTIONS = [
    detection(image, box, category) for image in (2, 3, 4) for box, category in ((BOX, BOLT), (OTHER_BOX, RING))
]


def find_issues_of_converted_image(raw_file: str) -> list[LabelIssue]:
    truth = coco(*CORRECT_LABELS, label(1, BOX))
    truth["images"][0]["converted_from"] = raw_file
    return find_row_issues("val", truth, CORRECT_DETECTIONS, None)[0]


def find_issues(labels: list[dict[str, Any]], detections: list[dict[str, Any]]) -> list[LabelIssue]:
    return find_row_issues("val", coco(*CORRECT_LABELS, *labels), [*CORRECT_DETECTIONS, *detections], None)[0]


def find_only_issue(labels: list[dict[str, Any]], detections: list[dict[str, Any]]) -> LabelIssue:
    (issue,) = find_issues(labels, detections)
    assert (issue.split, issue.file, issue.content) == ("val", "1.jpg", "0001")
    return issue


def test_no_labels_and_no_detections() -> None:
    assert find_row_issues("val", coco(), [], None) == ([], {})
    assert find_row_issues("val", {**coco(), "images": []}, [], np.zeros((0, 2))) == ([], {})


def test_no_issue_where_labels_and_detections_agree() -> None:
    assert find_issues([label(1, BOX)], [detection(1, BOX)]) == []


def test_a_missing_box() -> None:
    issue = find_only_issue([], [detection(1, BOX, RING, 0.8), detection(1, BOX, BOLT, 0.3)])
    assert (issue.kind, issue.label, issue.annotation, issue.suggestion) == ("missing_box", "ring", 0, "ring")
    assert issue.bbox == issue.detected == tuple(BOX)
    assert issue.score == pytest.approx(0.8 / 0.9, abs=1e-5)


def test_a_wrong_class() -> None:
    issue = find_only_issue([label(1, BOX)], [detection(1, BOX, RING), detection(1, BOX, BOLT, 0.09)])
    assert (issue.kind, issue.label, issue.suggestion) == ("wrong_class", "bolt", "ring")
    assert issue.annotation == len(CORRECT_LABELS) + 1
    assert issue.score == pytest.approx(0.9)


def test_no_wrong_class_where_the_labeled_one_is_as_confident() -> None:
    assert find_issues([label(1, BOX)], [detection(1, BOX, RING), detection(1, BOX, BOLT)]) == []


def test_a_bad_location() -> None:
    issue = find_only_issue([label(1, BOX)], [detection(1, [30.0, 10.0, 40.0, 40.0])])
    assert (issue.kind, issue.suggestion) == ("bad_location", "30 10 40 40")
    assert issue.bbox == tuple(BOX)
    assert issue.score == pytest.approx(2 / 3, abs=1e-5)


def test_a_spurious_box() -> None:
    issue = find_only_issue([label(1, BOX)], [])
    assert (issue.kind, issue.suggestion, issue.detected) == ("spurious_box", "remove", None)
    assert issue.score == pytest.approx(3 / 4)  # three of the four bolts are detected


def test_no_spurious_box_for_a_class_that_is_never_detected() -> None:
    labels = [label(image, BOX) for image in range(1, IMAGES + 1)]
    assert find_row_issues("val", coco(*labels), [], None)[0] == []


def test_a_duplicate_box() -> None:
    issue = find_only_issue([label(1, BOX), label(1, [14.0, 10.0, 40.0, 40.0])], [detection(1, BOX)])
    assert (issue.kind, issue.annotation, issue.suggestion) == ("duplicate_box", len(CORRECT_LABELS) + 2, "remove")
    assert issue.score == pytest.approx(36 / 44, abs=1e-5)


def test_overlapping_objects_that_are_both_detected_are_no_duplicates() -> None:
    boxes = [BOX, [20.0, 10.0, 40.0, 40.0]]
    assert find_issues([label(1, box) for box in boxes], [detection(1, box) for box in boxes]) == []


@pytest.mark.parametrize("state", [INTACT, ABSENT])
def test_a_wrong_state(state: int) -> None:
    other = INTACT + ABSENT - state
    labels = [*CORRECT_LABELS, label(4, [150.0, 60.0, 30.0, 30.0], state=ABSENT)]
    probabilities = np.zeros((len(labels) + 1, 2))
    probabilities[:-1, INTACT - 1] = 1
    probabilities[-1, ABSENT - 1] = 1  # the last label of image 4
    probabilities[0] = 0  # the label of image 1, which comes first
    probabilities[0, other - 1], probabilities[0, state - 1] = 0.8, 0.2
    truth = coco(*labels, label(1, BOX, state=state))
    (issue,), notes = find_row_issues("val", truth, [*CORRECT_DETECTIONS, detection(1, BOX)], probabilities)
    assert not notes
    names = {INTACT: "intact", ABSENT: "absent"}
    assert (issue.kind, issue.state, issue.suggestion) == ("wrong_state", names[state], names[other])
    assert issue.score == pytest.approx(0.6)


def test_an_unknown_state_is_not_wrong() -> None:
    probabilities = np.tile([0.9, 0.1], (len(CORRECT_LABELS) + 1, 1))
    truth = coco(*CORRECT_LABELS, label(1, BOX, state=0))
    assert find_row_issues("val", truth, [*CORRECT_DETECTIONS, detection(1, BOX)], probabilities) == ([], {})


def test_an_absent_object_needs_no_detection() -> None:
    assert find_issues([label(1, BOX, state=ABSENT)], []) == []
    assert find_issues([label(1, BOX, state=ABSENT)], [detection(1, BOX, score=0.3)]) == []


def test_crowds_and_detections_on_them_are_ignored() -> None:
    crowd = label(1, [0.0, 0.0, 200.0, 100.0], iscrowd=1)
    assert find_issues([crowd], [detection(1, BOX)]) == []


def test_issues_do_not_depend_on_the_scale_of_scores() -> None:
    """A detector with a tenth of all scores gives the same issues."""
    labels, detections = [label(1, BOX)], [detection(1, OTHER_BOX, RING, 0.8)]
    original = find_issues(labels, detections)
    tenth = [{**one, "score": one["score"] / 10} for one in [*CORRECT_DETECTIONS, *detections]]
    scaled, _ = find_row_issues("val", coco(*CORRECT_LABELS, *labels), tenth, None)
    assert len(original) == 2
    assert "score 0.80" in original[0].reason + original[1].reason
    calibrated, _ = find_row_issues(
        "val", coco(*CORRECT_LABELS, *labels), [*CORRECT_DETECTIONS, *detections], None, 0.5
    )
    assert "score 0.94" in calibrated[0].reason + calibrated[1].reason
    assert [(one.kind, one.score) for one in calibrated] == [(one.kind, one.score) for one in original]
    assert [(one.kind, one.score) for one in scaled] == [(one.kind, one.score) for one in original]


boxes = st.builds(
    lambda left, top, width, height: [left, top, width, height],
    st.floats(0, 150),
    st.floats(0, 80),
    st.floats(0.5, 60),
    st.floats(0.5, 60),
)
classes, images = st.sampled_from([BOLT, RING]), st.integers(1, IMAGES)
labels_ = st.lists(
    st.builds(label, images, boxes, classes, st.integers(0, 2), iscrowd=st.sampled_from([0, 0, 1])), max_size=8
)
detections_ = st.lists(st.builds(detection, images, boxes, classes, st.floats(0.01, 1)), max_size=12)


@given(labels_, detections_, st.booleans())
def test_invariants_of_any_list(labels: list[dict[str, Any]], detections: list[dict[str, Any]], states: bool) -> None:
    truth = coco(*labels)
    count = sum(not one["iscrowd"] for one in labels)
    probabilities = np.tile([0.1, 0.9], (count, 1)) if states else None
    listed, _ = find_row_issues("val", truth, detections, probabilities)
    by_id = {one["id"]: one for one in truth["annotations"]}
    assert listed == sort_by_score(listed)
    assert all(MIN_SCORE <= one.score <= 1 for one in listed)
    about = [(one.annotation, one.kind == "wrong_state") for one in listed if one.annotation]
    assert len(about) == len(set(about))
    for one in listed:
        assert one.kind in KINDS
        assert (one.kind == "missing_box") == (one.annotation == 0)
        if one.annotation:
            assert list(one.bbox) == by_id[one.annotation]["bbox"]
            assert not by_id[one.annotation]["iscrowd"]


def test_lines_of_the_table_can_be_copied_into_the_decisions(tmp_path: Path) -> None:
    listed = find_issues([label(1, BOX)], [detection(1, [100.123, 10.0, 40.0, 40.0])])
    write_issue_table(tmp_path / "metrics" / "s.csv", listed)
    text = (tmp_path / "metrics" / "s.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    assert tuple(rows[0]) == COLUMNS
    assert {(row["kind"], row["annotation"]) for row in rows} == {("missing_box", ""), ("spurious_box", "7")}
    assert set(REQUIRED_COLUMNS) <= {*COLUMNS, "decision"}
    first, *rest = text.splitlines()
    (tmp_path / "d.csv").write_text("\n".join([f"{first},decision", *(f"{line},fix" for line in rest)]))
    decisions = read_decisions(tmp_path / "d.csv")
    assert [decision.kind for decision in decisions] == [one.kind for one in listed]
    assert drop_reviewed(listed, decisions) == []


def test_names_that_a_spreadsheet_would_run_are_quoted_and_read_back(tmp_path: Path) -> None:
    (one,) = find_issues([label(1, BOX)], [])
    odd = one._replace(file="=a.jpg", label="@bolt", state="-s", suggestion="remove", kind="spurious_box")
    write_issue_table(tmp_path / "s.csv", [odd])
    header, line = (tmp_path / "s.csv").read_text(encoding="utf-8").splitlines()
    assert ",'=a.jpg," in line
    (tmp_path / "d.csv").write_text(f"{header},decision\n{line},accept\n")
    (read,) = read_decisions(tmp_path / "d.csv")
    assert (read.file, read.label, read.state) == ("=a.jpg", "@bolt", "-s")


def make_decision(kind: str, **changes: Any) -> Decision:
    decision = Decision("d.csv:2", "1.jpg", "0001", kind, "bolt", "", (10.0, 10.0, 50.0, 50.0), "accept", "")
    return decision._replace(**changes)


@pytest.mark.parametrize(
    ("decision", "hidden"),
    [
        (make_decision("spurious_box"), True),
        (make_decision("spurious_box", content=""), True),
        (make_decision("spurious_box", file="elsewhere.jpg"), True),
        (make_decision("spurious_box", content="", file="elsewhere.jpg"), False),
        (make_decision("spurious_box", content="0002"), False),
        (make_decision("wrong_class"), False),
        (make_decision("spurious_box", label="ring"), False),
        (make_decision("spurious_box", label="ring", decision="ignore"), True),
        (make_decision("spurious_box", xyxy=(30.0, 30.0, 70.0, 70.0)), False),
    ],
)
def test_reviewed_issues_are_not_listed(decision: Decision, hidden: bool) -> None:
    listed = find_issues([label(1, BOX)], [])
    assert len(listed) == 1
    assert (drop_reviewed(listed, [decision]) == []) == hidden


@pytest.mark.parametrize("raw_file", ["raw.tif", "other.tif"])
def test_a_decision_may_name_the_file_that_an_image_was_converted_from(raw_file: str) -> None:
    listed = find_issues_of_converted_image(raw_file)
    assert [one.file for one in listed] == ["1.jpg"]
    decision = make_decision("spurious_box", content="", file="raw.tif")
    assert (drop_reviewed(listed, [decision]) == []) == (raw_file == "raw.tif")


@pytest.mark.parametrize("predicted", ["bolt", "ring"])
def test_an_accepted_missing_box_is_not_listed_under_another_class(predicted: str) -> None:
    listed = find_issues([], [detection(1, BOX)])
    assert [one.kind for one in listed] == ["missing_box"]
    assert drop_reviewed(listed, [make_decision("missing_box", label=predicted)]) == []


def test_a_fixed_box_is_not_listed_at_its_new_position() -> None:
    listed = find_issues([label(1, BOX)], [detection(1, [30.0, 10.0, 40.0, 40.0])])
    moved = make_decision("bad_location", xyxy=(120.0, 10.0, 150.0, 40.0), decision="fix", suggestion="10 10 40 40")
    assert len(listed) == 1
    assert drop_reviewed(listed, [moved]) == []
