"""What a reviewer decided: reading the file, following it, and every mistake in it."""

from __future__ import annotations

import csv
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
    NEAR_IOU,
    SAME_IOU,
    Decision,
    follow_decisions,
    new_xyxy,
    read_decisions,
)  # fmt: skip
from detector.manifest.manifest import CleanBox, CleanImage, Labels

SHIPPED = Path(__file__).parents[2] / "data" / "decisions.csv"
HEADER = "file,content,kind,class,state,left,top,width,height,suggestion,decision"
LABELS = Labels(["bolt", "ring"], ["intact", "damaged"])
BOLT = CleanBox("bolt", (10.0, 10.0, 50.0, 50.0), "intact", 0.7)
RING = CleanBox("ring", (60.0, 10.0, 90.0, 50.0), "damaged")
IMAGE = CleanImage("data/a.jpg", "raw/a.jpg", "00ff", 100, 60, "data/a.jpg", None, None, (BOLT, RING))


def decided(kind: str, decision: str, suggestion: str = "", **changes: object) -> Decision:
    about = Decision("d.csv:2", "data/a.jpg", "", kind, "bolt", "", BOLT.xyxy, decision, suggestion)
    return about._replace(**changes)  # type: ignore[arg-type]


def follow(*decisions: Decision) -> tuple[tuple[CleanBox, ...], list[Decision]]:
    (image,), unmatched = follow_decisions([IMAGE], decisions, LABELS)
    return image.boxes, unmatched


def read(folder: Path, *lines: str) -> list[Decision]:
    path = folder / "d.csv"
    path.write_text("\n".join(lines), encoding="utf-8")
    return read_decisions(path)


def complaint(folder: Path, *lines: str) -> str:
    with pytest.raises(UserError) as caught:
        read(folder, *lines)
    return str(caught.value).removeprefix(f"{folder}/")


def test_the_file_that_comes_with_the_project_holds_no_decision() -> None:
    assert read_decisions(SHIPPED) == []


def test_a_line_of_the_suspects_with_a_decision_is_a_decision(tmp_path: Path) -> None:
    header = SHIPPED.read_text(encoding="utf-8").strip()
    line = 'val,data/a.jpg,wrong_class,0.9,bolt,intact,10,10,40,40,7,ring,"labelled bolt, found as ring",00ff,fix'
    (found,) = read(tmp_path, header, line, "")
    assert found == Decision(f"{tmp_path}/d.csv:2", "data/a.jpg", "00ff", "wrong_class", "bolt", "intact",
                             BOLT.xyxy, "fix", "ring")  # fmt: skip
    assert follow(found)[0][0].label == "ring"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([""], "d.csv:1: the header lacks 'file', 'kind'"),
        ([HEADER + ",colour"], "d.csv:1: the header has the unknown 'colour'"),
        ([HEADER + ",kind"], "d.csv:1: the header repeats 'kind'"),
        ([HEADER, "a.jpg,,wrong,bolt,,1,1,9,9,,accept"], "d.csv:2: kind is 'wrong'; expected missing_box, wrong"),
        ([HEADER, "", "a.jpg,,wrong_class,bolt,,1,1,9,9,ring,mend"], "d.csv:3: decision is 'mend'; expected accept"),
        ([HEADER, "a.jpg,,wrong_class,bolt,,1,1,9"], "d.csv:2: decision is ''"),
        ([HEADER, ",,wrong_class,bolt,,1,1,9,9,ring,fix"], "d.csv:2: neither file nor content"),
        ([HEADER, "a.jpg,,wrong_class,bolt,,1,1,nine,9,ring,fix"], "d.csv:2: the box is '1 1 nine 9'"),
        ([HEADER, "a.jpg,,wrong_class,bolt,,1,1,9,-9,ring,fix"], "d.csv:2: the box is '1 1 9 -9'"),
        ([HEADER, "a.jpg,,wrong_class,bolt,,nan,1,9,9,ring,fix"], "d.csv:2: the box is 'nan 1 9 9'"),
        ([HEADER, "a.jpg,,wrong_class,bolt,,1,1,9,9,,fix"], "d.csv:2: nothing in suggestion says what the fix is"),
        ([HEADER, "a.jpg,,bad_location,bolt,,1,1,9,9,2 2 9,fix"], "d.csv:2: suggestion: the box is '2 2 9'"),
        ([HEADER, "a.jpg,,spurious_box,bolt,,1,1,9,9,ring,fix"], "d.csv:2: suggestion is 'ring'; expected 'remove'"),
        ([HEADER, "a.jpg,,wrong_class,bolt,,1,1,9,9,ring,fix,2"], "d.csv:2: 12 cells, but the header has 11 columns"),
        ([HEADER, 'a.jpg,"wrong'], "d.csv: not a CSV file in UTF-8"),
    ],
)  # fmt: skip
def test_a_line_that_cannot_be_understood_is_named(tmp_path: Path, lines: list[str], message: str) -> None:
    assert complaint(tmp_path, *lines).startswith(message)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is missing; restore it"):
        read_decisions(tmp_path / "d.csv")


@given(st.binary(max_size=300) | st.text(max_size=200).map(lambda text: f"{HEADER}\n{text}".encode()))
def test_no_file_makes_a_traceback(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
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
        (decided("wrong_class", "fix", "ring"), [CleanBox("ring", BOLT.xyxy, "intact", 0.7)]),
        (decided("wrong_state", "fix", "damaged"), [CleanBox("bolt", BOLT.xyxy, "damaged", 0.7)]),
        (decided("bad_location", "fix", "5 5 40 100"), [CleanBox("bolt", (5, 5, 45, 60), "intact", 0.7)]),
        (decided("spurious_box", "fix", "remove"), []),
        (decided("duplicate_box", "fix", "remove"), []),
        (decided("spurious_box", "ignore"), [CleanBox("bolt", BOLT.xyxy, "intact", 0.7, True)]),
        (decided("wrong_class", "accept"), [BOLT]),
    ],
)
def test_what_becomes_of_a_label(decision: Decision, bolt: list[CleanBox]) -> None:
    boxes, unmatched = follow(decision)
    assert boxes == (*bolt, RING)
    assert unmatched == []


def test_what_becomes_of_a_missing_box() -> None:
    place = {"xyxy": (20.0, 30.0, 40.0, 90.0), "state": "damaged", "label": "ring"}
    cut = (20.0, 30.0, 40.0, 60.0)
    assert follow(decided("missing_box", "fix", "bolt", **place))[0][2:] == (CleanBox("bolt", cut, "damaged"),)
    ignored = follow(decided("missing_box", "ignore", "bolt", **place))
    assert ignored[0][2:] == (CleanBox("ring", cut, "damaged", None, True),)
    assert follow(decided("missing_box", "accept", "bolt", **place)) == (IMAGE.boxes, [])


def test_a_missing_box_that_somebody_has_drawn_since_is_not_drawn_again() -> None:
    decision = decided("missing_box", "fix", "bolt", xyxy=(12.0, 12.0, 50.0, 50.0))
    assert follow(decision) == (IMAGE.boxes, [decision])


@pytest.mark.parametrize("name", ["data/a.jpg", "raw/a.jpg"])
def test_an_image_is_known_by_its_files(name: str) -> None:
    assert follow(decided("spurious_box", "fix", "remove", file=name)) == ((RING,), [])


def test_an_image_is_known_by_its_content_under_any_name() -> None:
    decision = decided("spurious_box", "fix", "remove", file="data/before.jpg", content="00ff")
    assert follow(decision) == ((RING,), [])
    other = decision._replace(file="data/a.jpg", content="00aa")
    assert follow(other) == (IMAGE.boxes, [other])


@pytest.mark.parametrize("changes", [{"label": "ring"}, {"xyxy": (10.0, 10.0, 50.0, 58.0)}, {"file": "data/b.jpg"}])
def test_a_decision_about_no_label_is_handed_back(changes: dict[str, object]) -> None:
    decision = decided("wrong_class", "fix", "ring", **changes)
    assert follow(decision) == (IMAGE.boxes, [decision])


def test_the_closest_of_several_labels_is_meant() -> None:
    near = CleanBox("bolt", (10.0, 10.0, 50.0, 48.5))
    image = IMAGE.__class__(**{**{name: getattr(IMAGE, name) for name in IMAGE.__slots__}, "boxes": (near, BOLT)})
    (done,), _ = follow_decisions([image], [decided("duplicate_box", "fix", "remove")], LABELS)
    assert done.boxes == (near,)


def test_two_decisions_about_one_label_are_both_followed() -> None:
    boxes, _ = follow(decided("wrong_class", "fix", "ring"), decided("wrong_state", "fix", "damaged", where="d.csv:3"))
    assert boxes[0] == CleanBox("ring", BOLT.xyxy, "damaged", 0.7)


def test_a_line_that_is_there_twice_counts_once() -> None:
    decision = decided("missing_box", "fix", "bolt", xyxy=(20.0, 52.0, 40.0, 60.0))
    boxes, unmatched = follow(decision, decision._replace(where="d.csv:3"))
    assert len(boxes) == 3
    assert unmatched == []


@pytest.mark.parametrize(
    ("decisions", "message"),
    [
        ([decided("wrong_class", "fix", "nut")], "d.csv:2: 'nut' is no class of the dataset; it has bolt, ring"),
        ([decided("wrong_state", "fix", "lost")], "d.csv:2: 'lost' is no state of the dataset; it has intact, damaged"),
        ([decided("bad_location", "fix", "200 5 40 40")], "d.csv:2: the box covers nothing of data/a.jpg, which has"),
        (
            [decided("wrong_class", "fix", "ring"), decided("wrong_class", "accept", "ring", where="d.csv:9")],
            "d.csv:9: decides otherwise than d.csv:2 about the same label",
        ),
    ],
)
def test_what_cannot_be_followed_is_named(decisions: list[Decision], message: str) -> None:
    with pytest.raises(UserError) as caught:
        follow(*decisions)
    assert str(caught.value).startswith(message)


sides = st.floats(-20, 120)


@given(
    st.lists(
        st.builds(
            lambda kind, decision, label, left, top, width, height: decided(
                kind, decision, {"wrong_class": "ring", "missing_box": "bolt", "wrong_state": "damaged"}.get(kind, "")
                or ("remove" if kind != "bad_location" else "3 3 9 9"),
                label=label, xyxy=(left, top, left + width, top + height),
            ),
            st.sampled_from(KINDS), st.sampled_from(DECISIONS), st.sampled_from(LABELS.classes),
            sides, sides, st.floats(0.01, 90), st.floats(0.01, 90),
        ),
        max_size=4,
    )
)  # fmt: skip
def test_every_decision_is_followed_or_handed_back_and_boxes_stay_boxes(decisions: list[Decision]) -> None:
    numbered = [decision._replace(where=f"d.csv:{line}") for line, decision in enumerate(decisions, 2)]
    try:
        boxes, unmatched = follow(*numbered)
    except UserError:
        return  # they contradict each other, or a box covers nothing
    for box in boxes:
        left, top, right, bottom = box.xyxy
        assert 0 <= left < right <= IMAGE.width
        assert 0 <= top < bottom <= IMAGE.height
    for decision in unmatched:
        same = np.array([box.xyxy for box in IMAGE.boxes if box.label == decision.label])
        nearest = pairwise_iou_xyxy(np.array([decision.xyxy]), same).max()
        assert nearest >= NEAR_IOU if decision.kind == "missing_box" else nearest < SAME_IOU
    if all(decision.decision == "accept" for decision in numbered):
        assert boxes == IMAGE.boxes


def test_where_a_box_lies_afterwards() -> None:
    assert new_xyxy(decided("bad_location", "fix", "1 2 3 4")) == (1, 2, 4, 6)
    assert new_xyxy(decided("bad_location", "accept", "1 2 3 4")) == BOLT.xyxy


def test_the_shipped_header_is_the_suspects_and_the_decision() -> None:
    (header,) = csv.reader(SHIPPED.read_text(encoding="utf-8").splitlines())
    assert header[-1] == "decision"
