"""Every rule of preprocess with its finding, and the invariants of a clean box."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from detector.core.boxes import pairwise_iou_xyxy
from detector.core.errors import UserError
from detector.manifest.manifest import CleanBox, Labels
from detector.preprocessing.cleaning import clean_boxes, collect_labels
from detector.preprocessing.findings import Finding, FindingKind, Severity
from detector.preprocessing.raw_annotations import RawBox, RawImage
from detector.preprocessing.settings import PreprocessParams

LABELS = Labels(["bolt", "ring"], ["intact", "damaged"])
DEFAULTS: dict[str, Any] = {
    "dataset": "data/raw",
    "min_trust": 0.5,
    "min_box_size": 3,
    "duplicate_iou": 0.9,
    "near_duplicate_similarity": 0.85,
    "on_error": "drop",
}


def params(**changes: Any) -> PreprocessParams:
    return PreprocessParams(**{**DEFAULTS, **changes})


def raw(*boxes: RawBox, normalized: bool = False) -> RawImage:
    return RawImage("a.jpg", "dataset.jsonl:7", boxes, normalized)


def clean(
    *boxes: RawBox, normalized: bool = False, size: tuple[int, int] = (100, 50), **changes: Any
) -> tuple[tuple[CleanBox, ...], list[Finding]]:
    return clean_boxes(raw(*boxes, normalized=normalized), *size, LABELS, params(**changes))


def bolt(*xyxy: float, **fields: Any) -> RawBox:
    return RawBox("bolt", xyxy, **fields)  # type: ignore[arg-type]


def found_kinds(*boxes: RawBox, **changes: Any) -> list[FindingKind]:
    return [finding.kind for finding in clean(*boxes, **changes)[1]]


def test_no_boxes() -> None:
    assert clean() == ((), [])


def test_a_valid_box_is_unchanged() -> None:
    box = bolt(10, 5.25, 30, 40, state="intact", trust=0.5)
    assert clean(box) == ((CleanBox("bolt", (10, 5.25, 30, 40), "intact", 0.5),), [])


def test_normalized_boxes_become_pixels() -> None:
    boxes, findings = clean(bolt(0.1, 0.2, 0.5, 1), normalized=True)
    assert boxes == (CleanBox("bolt", (10, 10, 50, 50)),)
    assert findings == []


@pytest.mark.parametrize(
    ("box", "changes", "kind"),
    [
        (RawBox("nut", (1, 1, 9, 9)), {}, FindingKind.UNSELECTED_CLASS),
        (bolt(math.nan, 1, 9, 9), {}, FindingKind.NON_FINITE_BOX),
        (bolt(1, 1, math.inf, 9), {}, FindingKind.NON_FINITE_BOX),
        (bolt(1, -math.inf, 9, 9), {}, FindingKind.NON_FINITE_BOX),
        (bolt(10, 5, 30, 40), {"normalized": True}, FindingKind.COORDINATE_OUT_OF_RANGE),
        (bolt(-0.6, 0, 1, 1), {"normalized": True}, FindingKind.COORDINATE_OUT_OF_RANGE),
        (bolt(1, 1, 9, 9, trust=0.49), {}, FindingKind.LOW_TRUST),
        (bolt(1, 1, 9, 9, trust=math.nan), {}, FindingKind.LOW_TRUST),
        (bolt(1, 1, 1, 9), {}, FindingKind.EMPTY_BOX),
        (bolt(1, 9, 9, 1), {}, FindingKind.EMPTY_BOX),
        (bolt(9, 1, 1, 9), {"min_box_size": 0}, FindingKind.EMPTY_BOX),
        (bolt(5, 5, 5.0001, 9), {"min_box_size": 0}, FindingKind.EMPTY_BOX),
        (bolt(100, 1, 120, 9), {}, FindingKind.BOX_OUTSIDE_IMAGE),
        (bolt(1, -20, 9, -1), {}, FindingKind.BOX_OUTSIDE_IMAGE),
        (bolt(1e300, 1, 1e301, 9), {}, FindingKind.BOX_OUTSIDE_IMAGE),
        (bolt(1, 1, 3.9, 9), {}, FindingKind.SMALL_BOX),
        (bolt(98, 1, 120, 9), {}, FindingKind.SMALL_BOX),
    ],
)
def test_a_box_that_is_removed(box: RawBox, changes: dict[str, Any], kind: FindingKind) -> None:
    boxes, findings = clean(box, **changes)
    assert boxes == ()
    assert [(f.kind, f.where, f.image, f.box) for f in findings] == [(kind, "dataset.jsonl:7", "a.jpg", 1)]
    assert findings[0].details.startswith(f"{box.label} [")


def test_findings_number_the_boxes_of_the_image() -> None:
    findings = clean(bolt(1, 1, 9, 9), bolt(2, 2, 2, 2), bolt(3, 3, 3, 4))[1]
    assert [(finding.box, finding.details) for finding in findings] == [
        (2, "bolt [2, 2, 2, 2]"),
        (3, "bolt [3, 3, 3, 4]"),
    ]


def test_findings_give_the_rejected_trust_and_state() -> None:
    findings = clean(bolt(1, 1, 9, 9, trust=0.25), bolt(20, 1, 29, 9, state="rusty"))[1]
    assert [finding.details for finding in findings] == [
        "bolt [1, 1, 9, 9], trust 0.25",
        "bolt [20, 1, 29, 9], state rusty",
    ]


def test_a_box_beyond_the_image_is_clipped() -> None:
    boxes, findings = clean(bolt(-5, -5, 200, 30))
    assert boxes == (CleanBox("bolt", (0, 0, 100, 30)),)
    assert [finding.kind for finding in findings] == [FindingKind.BOX_CLIPPED]


def test_half_a_pixel_outside_the_image_is_no_finding() -> None:
    assert clean(bolt(-0.5, 0, 100.5, 30)) == ((CleanBox("bolt", (0, 0, 100, 30)),), [])


def test_a_normalized_box_slightly_out_of_range_is_clipped() -> None:
    boxes, findings = clean(bolt(-0.5, 0, 1.5, 1), normalized=True)
    assert boxes == (CleanBox("bolt", (0, 0, 100, 50)),)
    assert [finding.kind for finding in findings] == [FindingKind.BOX_CLIPPED]


@pytest.mark.parametrize("left", [0.1, 2.1, 33.3, 61.7])
def test_a_box_of_exactly_the_minimum_size_is_kept_despite_rounding(left: float) -> None:
    assert clean(bolt(left, 1, left + 3, 9))[1] == []


def test_a_box_of_unknown_trust_is_kept() -> None:
    assert found_kinds(bolt(1, 1, 9, 9, trust=None), min_trust=1) == []


def test_an_unknown_state_is_removed_and_the_box_kept() -> None:
    boxes, findings = clean(bolt(1, 1, 9, 9, state="rusty"))
    assert boxes == (CleanBox("bolt", (1, 1, 9, 9), None),)
    assert [finding.kind for finding in findings] == [FindingKind.UNKNOWN_STATE]


def test_one_box_can_have_two_findings() -> None:
    assert found_kinds(bolt(-9, 1, 9, 9, state="rusty")) == [FindingKind.BOX_CLIPPED, FindingKind.UNKNOWN_STATE]


def test_the_more_trusted_duplicate_is_kept() -> None:
    first, second = bolt(10, 10, 30, 30, trust=0.6), bolt(10, 10, 30, 30.5, trust=0.9, state="damaged")
    for number, order in ((1, (first, second)), (2, (second, first))):
        boxes, findings = clean(*order)
        assert [box.trust for box in boxes] == [0.9]
        assert [(f.kind, f.box, f.details) for f in findings] == [
            (FindingKind.DUPLICATE_BOX, number, "bolt [10, 10, 30, 30]")
        ]


def test_a_duplicate_keeps_its_number_when_boxes_before_it_are_removed() -> None:
    same = (10, 10, 30, 30)
    findings = clean(bolt(2, 2, 2, 2), bolt(*same), bolt(*same))[1]
    assert [(f.kind, f.box) for f in findings] == [(FindingKind.EMPTY_BOX, 1), (FindingKind.DUPLICATE_BOX, 3)]


def test_the_first_of_equally_trusted_duplicates_is_kept() -> None:
    boxes, _ = clean(bolt(10, 10, 30, 30, state="intact"), bolt(10, 10, 30, 30, state="damaged"))
    assert [box.state for box in boxes] == ["intact"]


def test_a_known_trust_outranks_an_unknown_one() -> None:
    boxes, _ = clean(bolt(10, 10, 30, 30), bolt(10, 10, 30, 30, trust=0.5))
    assert [box.trust for box in boxes] == [0.5]


def test_boxes_that_are_not_duplicates() -> None:
    same = (10, 10, 30, 30)
    assert found_kinds(bolt(*same), RawBox("ring", same)) == []
    assert found_kinds(bolt(*same), bolt(10, 10, 30, 27)) == []
    assert found_kinds(bolt(*same), bolt(*same, iscrowd=True), bolt(*same, iscrowd=True)) == []
    assert found_kinds(bolt(*same), bolt(*same), duplicate_iou=1) == []


def test_a_dropped_duplicate_drops_no_other_box() -> None:
    """Only the middle box is dropped: it overlaps both others, which overlap each other less."""
    boxes, _ = clean(
        bolt(0, 0, 40, 40, trust=0.9), bolt(0, 0, 44, 40, trust=0.8), bolt(0, 0, 48, 40, trust=0.7), duplicate_iou=0.9
    )
    assert [box.trust for box in boxes] == [0.9, 0.7]


def test_many_boxes_are_compared_quickly() -> None:
    places = (divmod(number, 90) for number in range(1500))
    crowded = [bolt(x, y, x + 6, y + 6) for y, x in places]
    boxes, findings = clean(*crowded, size=(100, 100))
    assert len(boxes) == 1500
    assert findings == []


coordinate = st.floats(-300, 300) | st.floats() | st.sampled_from([0.0, 1.0, 0.5, 50.0, 100.0])
raw_boxes = st.builds(
    RawBox,
    st.sampled_from(["bolt", "ring", "nut"]),
    st.tuples(coordinate, coordinate, coordinate, coordinate),
    st.sampled_from([None, "intact", "rusty"]),
    st.none() | st.floats(),
    st.booleans(),
)


@given(
    st.lists(raw_boxes, max_size=8),
    st.booleans(),
    st.tuples(st.integers(1, 300), st.integers(1, 300)),
    st.sampled_from([0, 0.001, 3, 10.5]),
    st.sampled_from([0.5, 0.9]),
)
def test_clean_boxes_lie_inside_with_a_positive_size(
    boxes: list[RawBox], normalized: bool, size: tuple[int, int], min_size: float, iou: float
) -> None:
    kept, findings = clean(*boxes, normalized=normalized, size=size, min_box_size=min_size, duplicate_iou=iou)
    removed = [f for f in findings if f.kind.severity in (Severity.DROPPED_BOX, Severity.EXCLUDED_BOX)]
    assert len(kept) + len(removed) == len(boxes), "every box is kept or has one finding that removes it"
    for box in kept:
        left, top, right, bottom = box.xyxy
        assert 0 <= left < right <= size[0]
        assert 0 <= top < bottom <= size[1]
        assert min(right - left, bottom - top) >= min_size - 1e-9
        assert box.label in LABELS.classes
        assert box.state in (None, *LABELS.states)
        assert box.trust is None or box.trust >= 0.5
    single = [box for box in kept if not box.iscrowd]
    for label in LABELS.classes:
        of_label = np.array([box.xyxy for box in single if box.label == label]).reshape(-1, 4)
        assert (np.triu(pairwise_iou_xyxy(of_label, of_label), 1) <= iou).all()


def labels(*found: tuple[str, str | None], **changes: Any) -> Labels:
    boxes = tuple(RawBox(label, (0, 0, 1, 1), state) for label, state in found)
    return collect_labels([raw(), raw(*boxes)], params(**changes))


FOUND = [("ring", "intact"), ("bolt", None), ("nut", "damaged"), ("ring", "absent")]


def test_null_selects_all_names_sorted() -> None:
    assert labels() == Labels([], [])
    assert labels(*FOUND) == Labels(["bolt", "nut", "ring"], ["absent", "damaged", "intact"])


def test_a_list_selects_and_orders_the_names() -> None:
    found = labels(*FOUND, classes=["ring", "bolt"], states=["intact", "occluded", "absent"])
    assert found == Labels(["ring", "bolt"], ["intact", "occluded", "absent"])


def test_a_dataset_without_states_has_none() -> None:
    assert labels(("ring", None), states=["intact", "damaged"]) == Labels(["ring"], [])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"classes": ["ring", "rign"]}, ["`preprocess.classes`", " ['rign']", "['bolt', 'nut', 'ring']"]),
        ({"classes": ["x", "y"]}, ["`preprocess.classes` is ['x', 'y']", "['bolt', 'nut', 'ring']", "null"]),
        ({"classes": ["ring", "ring"]}, ["`preprocess.classes` is ['ring', 'ring']", "duplicates"]),
        ({"states": ["new"]}, ["`preprocess.states` is ['new']", "['absent', 'damaged', 'intact']"]),
        ({"states": ["intact", "intact"]}, ["`preprocess.states` is ['intact', 'intact']", "duplicates"]),
    ],
)
def test_invalid_names(changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        labels(*FOUND, **changes)
    for word in words:
        assert word in str(caught.value)


def test_a_listed_class_in_a_dataset_without_boxes() -> None:
    with pytest.raises(UserError, match=r"`preprocess\.classes` lists \['ring'\]"):
        labels(classes=["ring"])


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("min_trust", [-0.1, 1.1]),
        ("min_box_size", [-1]),
        ("duplicate_iou", [0, 1.1]),
        ("near_duplicate_similarity", [0, 1.1, 2]),
        ("on_error", ["skip"]),
        ("format", ["csv"]),
    ],
)
def test_parameters_out_of_range(key: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(ValidationError, match=key):
            params(**{key: value})


def test_near_duplicates_can_be_disabled() -> None:
    assert params(near_duplicate_similarity=None).near_duplicate_similarity is None
