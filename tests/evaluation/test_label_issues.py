"""Which labels look wrong: each kind of error alone, a perfect detector, and what holds of any list."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.evaluation.label_issues import (
    COLUMNS,
    LEAST_SCORE,
    Suspect,
    suspects_of,
    without_decided,
    worst_first,
    write_suspects,
)  # fmt: skip
from detector.manifest.decisions import KINDS, REQUIRED, Decision, read_decisions

BOLT, RING = 1, 2
INTACT, ABSENT = 1, 2
BOX = [10.0, 10.0, 40.0, 40.0]
APART = [100.0, 10.0, 40.0, 40.0]
IMAGES = 4


def label(image: int, bbox: list[float], category: int = BOLT, state: int = INTACT, **more: Any) -> dict[str, Any]:
    return {"image_id": image, "category_id": category, "bbox": bbox, "state": state, "iscrowd": 0, **more}


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


# Three images in which labels and detections agree: they say how sure the detector is when it is right.
RIGHT = [label(image, box, category) for image in (2, 3, 4) for box, category in ((BOX, BOLT), (APART, RING))]
SEEN = [detection(image, box, category) for image in (2, 3, 4) for box, category in ((BOX, BOLT), (APART, RING))]


def suspects(labels: list[dict[str, Any]], found: list[dict[str, Any]]) -> list[Suspect]:
    return suspects_of("val", coco(*RIGHT, *labels), [*SEEN, *found], None)


def only(labels: list[dict[str, Any]], found: list[dict[str, Any]]) -> Suspect:
    (suspect,) = suspects(labels, found)
    assert (suspect.split, suspect.file, suspect.content) == ("val", "1.jpg", "0001")
    return suspect


def test_nothing_at_all() -> None:
    assert suspects_of("val", coco(), [], None) == []
    assert suspects_of("val", {**coco(), "images": []}, [], np.zeros((0, 2))) == []


def test_where_labels_and_detections_agree_nothing_looks_wrong() -> None:
    assert suspects([label(1, BOX)], [detection(1, BOX)]) == []


def test_a_missing_box() -> None:
    suspect = only([], [detection(1, BOX, RING, 0.8), detection(1, BOX, BOLT, 0.3)])
    assert (suspect.kind, suspect.label, suspect.annotation, suspect.suggestion) == ("missing_box", "ring", 0, "ring")
    assert suspect.bbox == suspect.found == tuple(BOX)
    assert suspect.score == pytest.approx(0.8 / 0.9, abs=1e-5)


def test_a_wrong_class() -> None:
    suspect = only([label(1, BOX)], [detection(1, BOX, RING), detection(1, BOX, BOLT, 0.09)])
    assert (suspect.kind, suspect.label, suspect.suggestion) == ("wrong_class", "bolt", "ring")
    assert suspect.annotation == len(RIGHT) + 1
    assert suspect.score == pytest.approx(0.9)


def test_no_wrong_class_where_the_own_one_is_as_sure() -> None:
    assert suspects([label(1, BOX)], [detection(1, BOX, RING), detection(1, BOX, BOLT)]) == []


def test_a_bad_location() -> None:
    suspect = only([label(1, BOX)], [detection(1, [30.0, 10.0, 40.0, 40.0])])
    assert (suspect.kind, suspect.suggestion) == ("bad_location", "30 10 40 40")
    assert suspect.bbox == tuple(BOX)
    assert suspect.score == pytest.approx(2 / 3, abs=1e-5)


def test_a_spurious_box() -> None:
    suspect = only([label(1, BOX)], [])
    assert (suspect.kind, suspect.suggestion, suspect.found) == ("spurious_box", "remove", None)
    assert suspect.score == pytest.approx(3 / 4)  # three of the four bolts are found


def test_what_the_detector_never_finds_is_no_spurious_box() -> None:
    labels = [label(image, BOX) for image in range(1, IMAGES + 1)]
    assert suspects_of("val", coco(*labels), [], None) == []


def test_a_duplicate_box() -> None:
    suspect = only([label(1, BOX), label(1, [14.0, 10.0, 40.0, 40.0])], [detection(1, BOX)])
    assert (suspect.kind, suspect.annotation, suspect.suggestion) == ("duplicate_box", len(RIGHT) + 2, "remove")
    assert suspect.score == pytest.approx(36 / 44, abs=1e-5)


def test_two_overlapping_objects_that_are_both_found_are_no_duplicates() -> None:
    boxes = [BOX, [20.0, 10.0, 40.0, 40.0]]
    assert suspects([label(1, box) for box in boxes], [detection(1, box) for box in boxes]) == []


@pytest.mark.parametrize("state", [INTACT, ABSENT])
def test_a_wrong_state(state: int) -> None:
    other = INTACT + ABSENT - state
    sure = np.zeros((len(RIGHT) + 1, 2))
    sure[:, INTACT - 1] = 1
    sure[0] = 0  # that of image 1, whose labels come first
    sure[0, other - 1], sure[0, state - 1] = 0.8, 0.2
    truth = coco(*RIGHT, label(1, BOX, state=state))
    (suspect,) = suspects_of("val", truth, [*SEEN, detection(1, BOX)], sure)
    names = {INTACT: "intact", ABSENT: "absent"}
    assert (suspect.kind, suspect.state, suspect.suggestion) == ("wrong_state", names[state], names[other])
    assert suspect.score == pytest.approx(0.6)


def test_an_unknown_state_is_not_wrong() -> None:
    sure = np.tile([0.9, 0.1], (len(RIGHT) + 1, 1))
    assert suspects_of("val", coco(*RIGHT, label(1, BOX, state=0)), [*SEEN, detection(1, BOX)], sure) == []


def test_of_an_absent_object_nothing_needs_to_be_found() -> None:
    assert suspects([label(1, BOX, state=ABSENT)], []) == []
    assert suspects([label(1, BOX, state=ABSENT)], [detection(1, BOX, score=0.3)]) == []


def test_a_crowd_is_no_label_and_what_lies_on_it_is_not_missing() -> None:
    crowd = label(1, [0.0, 0.0, 200.0, 100.0], iscrowd=1)
    assert suspects([crowd], [detection(1, BOX)]) == []


def test_low_scores_are_as_good_as_high_ones() -> None:
    """A detector whose every score is a tenth raises the same alarms."""
    labels, found = [label(1, BOX)], [detection(1, APART, RING, 0.8)]
    plain = suspects(labels, found)
    faint = suspects_of("val", coco(*RIGHT, *labels), [{**one, "score": one["score"] / 10} for one in [*SEEN, *found]],
                        None)  # fmt: skip
    assert len(plain) == 2
    assert [(one.kind, one.score) for one in faint] == [(one.kind, one.score) for one in plain]


boxes = st.builds(
    lambda left, top, width, height: [left, top, width, height],
    st.floats(0, 150), st.floats(0, 80), st.floats(0.5, 60), st.floats(0.5, 60),
)  # fmt: skip
classes, images = st.sampled_from([BOLT, RING]), st.integers(1, IMAGES)
labels_ = st.lists(
    st.builds(label, images, boxes, classes, st.integers(0, 2), iscrowd=st.sampled_from([0, 0, 1])), max_size=8
)
detections_ = st.lists(st.builds(detection, images, boxes, classes, st.floats(0.01, 1)), max_size=12)


@given(labels_, detections_, st.booleans())
def test_what_holds_of_any_list(labels: list[dict[str, Any]], found: list[dict[str, Any]], states: bool) -> None:
    truth = coco(*labels)
    many = sum(not one["iscrowd"] for one in labels)
    probabilities = np.tile([0.1, 0.9], (many, 1)) if states else None
    listed = suspects_of("val", truth, found, probabilities)
    by_id = {one["id"]: one for one in truth["annotations"]}
    assert listed == worst_first(listed)
    assert all(LEAST_SCORE <= one.score <= 1 for one in listed)
    about = [(one.annotation, one.kind == "wrong_state") for one in listed if one.annotation]
    assert len(about) == len(set(about))
    for one in listed:
        assert one.kind in KINDS
        assert (one.kind == "missing_box") == (one.annotation == 0)
        if one.annotation:
            assert list(one.bbox) == by_id[one.annotation]["bbox"]
            assert not by_id[one.annotation]["iscrowd"]


def test_the_file_can_be_copied_into_the_decisions(tmp_path: Path) -> None:
    listed = suspects([label(1, BOX)], [detection(1, [100.123, 10.0, 40.0, 40.0])])
    write_suspects(tmp_path / "metrics" / "s.csv", listed)
    text = (tmp_path / "metrics" / "s.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    assert tuple(rows[0]) == COLUMNS
    assert {(row["kind"], row["annotation"]) for row in rows} == {("missing_box", ""), ("spurious_box", "7")}
    assert set(REQUIRED) <= {*COLUMNS, "decision"}
    first, *rest = text.splitlines()
    (tmp_path / "d.csv").write_text("\n".join([f"{first},decision", *(f"{line},fix" for line in rest)]))
    decisions = read_decisions(tmp_path / "d.csv")
    assert [decision.kind for decision in decisions] == [one.kind for one in listed]
    assert without_decided(listed, decisions) == []


def about(kind: str, **changes: Any) -> Decision:
    decision = Decision("d.csv:2", "1.jpg", "0001", kind, "bolt", "", (10.0, 10.0, 50.0, 50.0), "accept", "")
    return decision._replace(**changes)


@pytest.mark.parametrize(
    ("decision", "hidden"),
    [
        (about("spurious_box"), True),
        (about("spurious_box", content=""), True),
        (about("spurious_box", file="elsewhere.jpg"), True),
        (about("spurious_box", content="", file="elsewhere.jpg"), False),
        (about("spurious_box", content="0002"), False),
        (about("wrong_class"), False),
        (about("spurious_box", xyxy=(30.0, 30.0, 70.0, 70.0)), False),
    ],
)
def test_what_is_decided_is_not_listed_again(decision: Decision, hidden: bool) -> None:
    listed = suspects([label(1, BOX)], [])
    assert len(listed) == 1
    assert (without_decided(listed, [decision]) == []) == hidden


def test_a_box_that_was_moved_is_not_listed_where_it_lies_now() -> None:
    listed = suspects([label(1, BOX)], [detection(1, [30.0, 10.0, 40.0, 40.0])])
    moved = about("bad_location", xyxy=(120.0, 10.0, 150.0, 40.0), decision="fix", suggestion="10 10 40 40")
    assert len(listed) == 1
    assert without_decided(listed, [moved]) == []
