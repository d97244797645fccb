"""Reviewer decisions: reading the file, applying it, and every error in it."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.core.boxes import pairwise_iou_xyxy
from detector.core.errors import UserError
from detector.manifest.decisions import (
    DECISIONS,
    KINDS,
    SAME_BOX_IOU,
    SAME_OBJECT_IOU,
    Decision,
    apply_decisions,
    corrected_xyxy,
    read_decisions,
)
from detector.manifest.manifest import CleanBox, CleanImage, Labels

SHIPPED = Path(__file__).parents[2] / "data" / "decisions.csv"
HEADER = "file,content,kind,class,state,left,top,width,height,suggestion,decision"
LABELS = Labels(["bolt", "ring"], ["intact", "damaged"])
BOLT = CleanBox("bolt", (10.0, 10.0, 50.0, 50.0), "intact", 0.7)
RING = CleanBox("ring", (60.0, 10.0, 90.0, 50.0), "damaged")
IMAGE = CleanImage("data/a.jpg", "raw/a.jpg", "00ff", 100, 60, "data/a.jpg", None, None, (BOLT, RING))


def decide(kind: str, decision: str, suggestion: str = "", **changes: object) -> Decision:
    made = Decision("d.csv:2", "data/a.jpg", "", kind, "bolt", "", BOLT.xyxy, decision, suggestion)
    return made._replace(**changes)  # type: ignore[arg-type]


def apply(*decisions: Decision) -> tuple[tuple[CleanBox, ...], list[Decision]]:
    (image,), unmatched = apply_decisions([IMAGE], decisions, LABELS)
    return image.boxes, unmatched


def read(folder: Path, *lines: str) -> list[Decision]:
    path = folder / "d.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    return read_decisions(path)


def read_error(folder: Path, *lines: str) -> str:
    with pytest.raises(UserError) as caught:
        read(folder, *lines)
    return str(caught.value).removeprefix(f"{folder}/")


def test_shipped_file_holds_no_decisions() -> None:
    assert read_decisions(SHIPPED) == []


def test_row_of_the_label_issues_plus_a_decision_is_read(tmp_path: Path) -> None:
    header = SHIPPED.read_text(encoding="utf-8").strip()
    line = 'val,data/a.jpg,wrong_class,0.9,bolt,intact,10,10,40,40,7,ring,"labeled bolt, predicted as ring",00ff,fix'
    (found,) = read(tmp_path, header, line, "")
    where = f"{tmp_path}/d.csv:2"
    assert found == Decision(where, "data/a.jpg", "00ff", "wrong_class", "bolt", "intact", BOLT.xyxy, "fix", "ring")
    assert apply(found)[0][0].label == "ring"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([""], "d.csv:1: missing columns 'file', 'kind'"),
        ([HEADER + ",color"], "d.csv:1: unknown columns 'color'"),
        ([HEADER + ",kind"], "d.csv:1: repeated columns 'kind'"),
        ([HEADER, "a.jpg,,wrong,bolt,,1,1,9,9,,accept"], "d.csv:2: kind is 'wrong'; expected missing_box, wrong"),
        ([HEADER, "", "a.jpg,,wrong_class,bolt,,1,1,9,9,ring,mend"], "d.csv:3: decision is 'mend'; expected accept"),
        ([HEADER, "a.jpg,,wrong_class,bolt,,1,1,9"], "d.csv:2: decision is ''"),
        ([HEADER, ",,wrong_class,bolt,,1,1,9,9,ring,fix"], "d.csv:2: file and content are both empty"),
        ([HEADER, "a.jpg,,wrong_class,bolt,,1,1,nine,9,ring,fix"], "d.csv:2: the box is '1 1 nine 9'"),
        ([HEADER, "a.jpg,,wrong_class,bolt,,1,1,9,-9,ring,fix"], "d.csv:2: the box is '1 1 9 -9'"),
        ([HEADER, "a.jpg,,wrong_class,bolt,,nan,1,9,9,ring,fix"], "d.csv:2: the box is 'nan 1 9 9'"),
        ([HEADER, "a.jpg,,wrong_class,bolt,,1,1,9,9,,fix"], "d.csv:2: a fix needs a suggestion"),
        ([HEADER, "a.jpg,,bad_location,bolt,,1,1,9,9,2 2 9,fix"], "d.csv:2: suggestion: the box is '2 2 9'"),
        ([HEADER, "a.jpg,,spurious_box,bolt,,1,1,9,9,ring,fix"], "d.csv:2: suggestion is 'ring'; expected 'remove'"),
        ([HEADER, "a.jpg,,wrong_class,bolt,,1,1,9,9,ring,fix,2"], "d.csv:2: 12 values, but the header has 11 columns"),
        ([HEADER, 'a.jpg,"wrong'], "d.csv: not a UTF-8 CSV file"),
    ],
)
def test_invalid_line_is_named(tmp_path: Path, lines: list[str], message: str) -> None:
    assert read_error(tmp_path, *lines).startswith(message)


def test_quoted_cells_are_read_as_the_names_they_were(tmp_path: Path) -> None:
    """As label_issues.csv quotes what a spreadsheet would run."""
    (found,) = read(tmp_path, HEADER, "'=a.jpg,,wrong_class,'-bolt,'@s,1,1,9,9,'+ring,fix")
    assert (found.file, found.label, found.state, found.suggestion) == ("=a.jpg", "-bolt", "@s", "+ring")


def test_a_folder_or_a_pipe_in_its_place(tmp_path: Path) -> None:
    (tmp_path / "d.csv").mkdir()
    os.mkfifo(tmp_path / "pipe.csv")
    for name, kind in (("d", "a folder"), ("pipe", "a pipe")):
        with pytest.raises(UserError, match=rf"{name}\.csv is {kind}, expected a file"):
            read_decisions(tmp_path / f"{name}.csv")


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"d\.csv is missing"):
        read_decisions(tmp_path / "d.csv")


@given(st.binary(max_size=300) | st.text(max_size=200).map(lambda text: f"{HEADER}\n{text}".encode()))
def test_no_file_causes_a_traceback(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(data)
    message: str = ""
    found: list[Decision] = []
    try:
        found = read_decisions(path)
    except UserError as error:
        message = str(error)
    assert not message or str(path) in message
    assert all(decision.kind in KINDS for decision in found)


@pytest.mark.parametrize(
    ("decision", "bolt"),
    [
        (decide("wrong_class", "fix", "ring"), [CleanBox("ring", BOLT.xyxy, "intact", 0.7)]),
        (decide("wrong_state", "fix", "damaged"), [CleanBox("bolt", BOLT.xyxy, "damaged", 0.7)]),
        (decide("bad_location", "fix", "5 5 40 100"), [CleanBox("bolt", (5, 5, 45, 60), "intact", 0.7)]),
        (decide("spurious_box", "fix", "remove"), []),
        (decide("duplicate_box", "fix", "remove"), []),
        (decide("spurious_box", "ignore"), [CleanBox("bolt", BOLT.xyxy, "intact", 0.7, True)]),
        (decide("wrong_class", "accept"), [BOLT]),
    ],
)
def test_decisions_about_a_label(decision: Decision, bolt: list[CleanBox]) -> None:
    boxes, unmatched = apply(decision)
    assert boxes == (*bolt, RING)
    assert unmatched == []


def test_decisions_about_a_missing_box() -> None:
    place = {"xyxy": (20.0, 30.0, 40.0, 90.0), "state": "damaged", "label": "ring"}
    clipped = (20.0, 30.0, 40.0, 60.0)
    assert apply(decide("missing_box", "fix", "bolt", **place))[0][2:] == (CleanBox("bolt", clipped, "damaged"),)
    ignored = apply(decide("missing_box", "ignore", "bolt", **place))
    assert ignored[0][2:] == (CleanBox("ring", clipped, "damaged", None, True),)
    assert apply(decide("missing_box", "accept", "bolt", **place)) == (IMAGE.boxes, [])


def test_missing_box_that_was_added_since_is_not_added_again() -> None:
    decision = decide("missing_box", "fix", "bolt", xyxy=(12.0, 12.0, 50.0, 50.0))
    assert apply(decision) == (IMAGE.boxes, [decision])


@pytest.mark.parametrize("name", ["data/a.jpg", "raw/a.jpg"])
def test_image_is_found_by_either_path(name: str) -> None:
    assert apply(decide("spurious_box", "fix", "remove", file=name)) == ((RING,), [])


def test_image_is_found_by_content_under_any_name() -> None:
    decision = decide("spurious_box", "fix", "remove", file="data/before.jpg", content="00ff")
    assert apply(decision) == ((RING,), [])
    other = decision._replace(file="data/a.jpg", content="00aa")
    assert apply(other) == (IMAGE.boxes, [other])


@pytest.mark.parametrize("changes", [{"label": "ring"}, {"xyxy": (10.0, 10.0, 50.0, 58.0)}, {"file": "data/b.jpg"}])
def test_decision_that_matches_no_label_is_returned(changes: dict[str, object]) -> None:
    decision = decide("wrong_class", "fix", "ring", **changes)
    assert apply(decision) == (IMAGE.boxes, [decision])


def test_decision_applies_to_the_label_with_the_highest_iou() -> None:
    near = CleanBox("bolt", (10.0, 10.0, 50.0, 48.5))
    image = IMAGE.__class__(**{**{name: getattr(IMAGE, name) for name in IMAGE.__slots__}, "boxes": (near, BOLT)})
    (done,), _ = apply_decisions([image], [decide("duplicate_box", "fix", "remove")], LABELS)
    assert done.boxes == (near,)


def test_two_decisions_about_one_label_are_both_applied() -> None:
    boxes, _ = apply(decide("wrong_class", "fix", "ring"), decide("wrong_state", "fix", "damaged", where="d.csv:3"))
    assert boxes[0] == CleanBox("ring", BOLT.xyxy, "damaged", 0.7)


def test_repeated_line_counts_once() -> None:
    decision = decide("missing_box", "fix", "bolt", xyxy=(20.0, 52.0, 40.0, 60.0))
    boxes, unmatched = apply(decision, decision._replace(where="d.csv:3"))
    assert len(boxes) == 3
    assert unmatched == []


@pytest.mark.parametrize(
    ("decisions", "message"),
    [
        ([decide("wrong_class", "fix", "nut")], "d.csv:2: 'nut' is not a class"),
        (
            [decide("wrong_state", "fix", "lost")],
            "d.csv:2: 'lost' is not a state",
        ),
        ([decide("bad_location", "fix", "200 5 40 40")], "d.csv:2: the box lies outside data/a.jpg"),
        (
            [decide("wrong_class", "fix", "ring"), decide("wrong_class", "accept", "ring", where="d.csv:9")],
            "d.csv:9: contradicts d.csv:2",
        ),
    ],
)
def test_decision_that_cannot_be_applied_is_named(decisions: list[Decision], message: str) -> None:
    with pytest.raises(UserError) as caught:
        apply(*decisions)
    assert str(caught.value).startswith(message)


SUGGESTIONS = {
    "wrong_class": "ring",
    "missing_box": "bolt",
    "wrong_state": "damaged",
    "bad_location": "3 3 9 9",
    "spurious_box": "remove",
    "duplicate_box": "remove",
}


@st.composite
def valid_decisions(draw: st.DrawFn) -> Decision:
    kind, decision = draw(st.sampled_from(KINDS)), draw(st.sampled_from(DECISIONS))
    left, top = draw(st.floats(-20, 120)), draw(st.floats(-20, 120))
    width, height = draw(st.floats(0.01, 90)), draw(st.floats(0.01, 90))
    xyxy = (left, top, left + width, top + height)
    return decide(kind, decision, SUGGESTIONS[kind], label=draw(st.sampled_from(LABELS.classes)), xyxy=xyxy)


@given(st.lists(valid_decisions(), max_size=4))
def test_every_decision_is_applied_or_returned_and_boxes_stay_valid(decisions: list[Decision]) -> None:
    numbered = [decision._replace(where=f"d.csv:{line}") for line, decision in enumerate(decisions, 2)]
    try:
        boxes, unmatched = apply(*numbered)
    except UserError:
        return  # they contradict each other, or a box lies outside the image
    for box in boxes:
        left, top, right, bottom = box.xyxy
        assert 0 <= left < right <= IMAGE.width
        assert 0 <= top < bottom <= IMAGE.height
    for decision in unmatched:
        same = np.array([box.xyxy for box in IMAGE.boxes if box.label == decision.label])
        nearest = pairwise_iou_xyxy(np.array([decision.xyxy]), same).max()
        assert nearest >= SAME_OBJECT_IOU if decision.kind == "missing_box" else nearest < SAME_BOX_IOU
    if all(decision.decision == "accept" for decision in numbered):
        assert boxes == IMAGE.boxes


def test_corrected_box() -> None:
    assert corrected_xyxy(decide("bad_location", "fix", "1 2 3 4")) == (1, 2, 4, 6)
    assert corrected_xyxy(decide("bad_location", "accept", "1 2 3 4")) == BOLT.xyxy


def test_shipped_header_ends_with_the_decision() -> None:
    (header,) = csv.reader(SHIPPED.read_text(encoding="utf-8").splitlines())
    assert header[-1] == "decision"
