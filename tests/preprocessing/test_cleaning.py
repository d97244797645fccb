"""Every rule of preprocess with the reason it gives, and what always holds of a clean box."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from detector.core.boxes import pairwise_iou_xyxy
from detector.core.errors import UserError
from detector.manifest.manifest import CleanBox, Labels
from detector.preprocessing.cleaning import Finding, PreprocessParams, clean_boxes, labels_of
from detector.preprocessing.raw_annotations import RawBox, RawImage

LABELS = Labels(["bolt", "ring"], ["intact", "damaged"])
DEFAULTS: dict[str, Any] = {
    "dataset": "data/raw",
    "format": "jsonl",
    "trust_threshold": 0.5,
    "min_box_size": 3,
    "duplicate_iou": 0.9,
    "near_duplicate": 0.85,
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


def reasons(*boxes: RawBox, **changes: Any) -> list[str]:
    return [finding.reason for finding in clean(*boxes, **changes)[1]]


def test_no_boxes() -> None:
    assert clean() == ((), [])


def test_a_good_box_stays_as_it_is() -> None:
    box = bolt(10, 5.25, 30, 40, state="intact", trust=0.5)
    assert clean(box) == ((CleanBox("bolt", (10, 5.25, 30, 40), "intact", 0.5),), [])


def test_normalized_boxes_become_pixels() -> None:
    boxes, findings = clean(bolt(0.1, 0.2, 0.5, 1), normalized=True)
    assert boxes == (CleanBox("bolt", (10, 10, 50, 50)),)
    assert findings == []


@pytest.mark.parametrize(
    ("box", "changes", "reason"),
    [
        (RawBox("nut", (1, 1, 9, 9)), {}, "label not in classes, box left out"),
        (bolt(math.nan, 1, 9, 9), {}, "coordinate not finite, box dropped"),
        (bolt(1, 1, math.inf, 9), {}, "coordinate not finite, box dropped"),
        (bolt(1, -math.inf, 9, 9), {}, "coordinate not finite, box dropped"),
        (bolt(10, 5, 30, 40), {"normalized": True}, "normalized coordinate far outside 0..1, box dropped"),
        (bolt(-0.6, 0, 1, 1), {"normalized": True}, "normalized coordinate far outside 0..1, box dropped"),
        (bolt(1, 1, 9, 9, trust=0.49), {}, "trust below threshold, box left out"),
        (bolt(1, 1, 9, 9, trust=math.nan), {}, "trust below threshold, box left out"),
        (bolt(1, 1, 1, 9), {}, "box without area, dropped"),
        (bolt(1, 9, 9, 1), {}, "box without area, dropped"),
        (bolt(9, 1, 1, 9), {"min_box_size": 0}, "box without area, dropped"),
        (bolt(5, 5, 5.0001, 9), {"min_box_size": 0}, "box without area, dropped"),
        (bolt(100, 1, 120, 9), {}, "box wholly outside the image, dropped"),
        (bolt(1, -20, 9, -1), {}, "box wholly outside the image, dropped"),
        (bolt(1e300, 1, 1e301, 9), {}, "box wholly outside the image, dropped"),
        (bolt(1, 1, 3.9, 9), {}, "box smaller than min_box_size, left out"),
        (bolt(98, 1, 120, 9), {}, "box smaller than min_box_size, left out"),
    ],
)
def test_a_box_that_goes(box: RawBox, changes: dict[str, Any], reason: str) -> None:
    boxes, findings = clean(box, **changes)
    assert boxes == ()
    assert [(f.reason, f.where, f.image) for f in findings] == [(reason, "dataset.jsonl:7", "a.jpg")]
    assert findings[0].detail.startswith(f"box 1: {box.label} [")


def test_findings_number_the_boxes_of_the_file() -> None:
    details = [finding.detail for finding in clean(bolt(1, 1, 9, 9), bolt(2, 2, 2, 2), bolt(3, 3, 3, 4))[1]]
    assert details == ["box 2: bolt [2, 2, 2, 2]", "box 3: bolt [3, 3, 3, 4]"]


def test_a_box_that_reaches_out_is_clipped() -> None:
    boxes, findings = clean(bolt(-5, -5, 200, 30))
    assert boxes == (CleanBox("bolt", (0, 0, 100, 30)),)
    assert [finding.reason for finding in findings] == ["box outside the image, clipped"]


def test_half_a_pixel_outside_is_no_finding() -> None:
    assert clean(bolt(-0.5, 0, 100.5, 30)) == ((CleanBox("bolt", (0, 0, 100, 30)),), [])


def test_a_slightly_wrong_normalized_box_is_clipped() -> None:
    boxes, findings = clean(bolt(-0.5, 0, 1.5, 1), normalized=True)
    assert boxes == (CleanBox("bolt", (0, 0, 100, 50)),)
    assert [finding.reason for finding in findings] == ["box outside the image, clipped"]


@pytest.mark.parametrize("left", [0.1, 2.1, 33.3, 61.7])
def test_exactly_the_smallest_size_stays_in_spite_of_rounding(left: float) -> None:
    assert clean(bolt(left, 1, left + 3, 9))[1] == []


def test_an_unknown_trust_is_trusted() -> None:
    assert reasons(bolt(1, 1, 9, 9, trust=None), trust_threshold=1) == []


def test_an_unknown_state_is_taken_away_and_the_box_stays() -> None:
    boxes, findings = clean(bolt(1, 1, 9, 9, state="rusty"))
    assert boxes == (CleanBox("bolt", (1, 1, 9, 9), None),)
    assert [finding.reason for finding in findings] == ["state unknown, box kept without a state"]


def test_one_box_can_have_two_findings() -> None:
    assert reasons(bolt(-9, 1, 9, 9, state="rusty")) == [
        "box outside the image, clipped",
        "state unknown, box kept without a state",
    ]


def test_of_duplicates_the_more_trusted_stays() -> None:
    first, second = bolt(10, 10, 30, 30, trust=0.6), bolt(10, 10, 30, 30.5, trust=0.9, state="damaged")
    for order in ((first, second), (second, first)):
        boxes, findings = clean(*order)
        assert [box.trust for box in boxes] == [0.9]
        assert [(f.reason, f.detail) for f in findings] == [
            ("same-class duplicate box, dropped", "bolt [10, 10, 30, 30]")
        ]


def test_of_equally_trusted_duplicates_the_first_stays() -> None:
    boxes, _ = clean(bolt(10, 10, 30, 30, state="intact"), bolt(10, 10, 30, 30, state="damaged"))
    assert [box.state for box in boxes] == ["intact"]


def test_a_known_trust_beats_an_unknown_one() -> None:
    boxes, _ = clean(bolt(10, 10, 30, 30), bolt(10, 10, 30, 30, trust=0.5))
    assert [box.trust for box in boxes] == [0.5]


def test_what_is_no_duplicate() -> None:
    same = (10, 10, 30, 30)
    assert reasons(bolt(*same), RawBox("ring", same)) == []
    assert reasons(bolt(*same), bolt(10, 10, 30, 27)) == []
    assert reasons(bolt(*same), bolt(*same, iscrowd=True), bolt(*same, iscrowd=True)) == []
    assert reasons(bolt(*same), bolt(*same), duplicate_iou=1) == []


def test_a_dropped_duplicate_drops_no_other() -> None:
    """The middle box overlaps both others, which do not overlap enough: only it goes."""
    boxes, _ = clean(
        bolt(0, 0, 40, 40, trust=0.9), bolt(0, 0, 44, 40, trust=0.8), bolt(0, 0, 48, 40, trust=0.7), duplicate_iou=0.9
    )
    assert [box.trust for box in boxes] == [0.9, 0.7]


def test_many_boxes_are_compared_fast() -> None:
    places = np.arange(1500)
    crowded = [bolt(x, y, x + 6, y + 6) for x, y in zip(places % 90, places // 90, strict=True)]
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
    boxes: list[RawBox], normalized: bool, size: tuple[int, int], smallest: float, iou: float
) -> None:
    kept, findings = clean(*boxes, normalized=normalized, size=size, min_box_size=smallest, duplicate_iou=iou)
    gone = [finding for finding in findings if finding.reason.endswith(("dropped", "left out"))]
    assert len(kept) + len(gone) == len(boxes), "every box is kept or has one reason to go"
    for box in kept:
        left, top, right, bottom = box.xyxy
        assert 0 <= left < right <= size[0]
        assert 0 <= top < bottom <= size[1]
        assert min(right - left, bottom - top) >= smallest - 1e-9
        assert box.label in LABELS.classes
        assert box.state in (None, *LABELS.states)
        assert box.trust is None or box.trust >= 0.5
    single = [box for box in kept if not box.iscrowd]
    for label in LABELS.classes:
        of_label = np.array([box.xyxy for box in single if box.label == label]).reshape(-1, 4)
        assert (np.triu(pairwise_iou_xyxy(of_label, of_label), 1) <= iou).all()


def labels(*found: tuple[str, str | None], **changes: Any) -> Labels:
    boxes = tuple(RawBox(label, (0, 0, 1, 1), state) for label, state in found)
    return labels_of([raw(), raw(*boxes)], params(**changes))


FOUND = [("ring", "intact"), ("bolt", None), ("nut", "damaged"), ("ring", "absent")]


def test_all_names_that_occur_are_sorted() -> None:
    assert labels() == Labels([], [])
    assert labels(*FOUND) == Labels(["bolt", "nut", "ring"], ["absent", "damaged", "intact"])


def test_lists_filter_and_fix_the_order() -> None:
    found = labels(*FOUND, classes=["ring", "bolt"], states=["intact", "occluded", "absent"])
    assert found == Labels(["ring", "bolt"], ["intact", "occluded", "absent"])


def test_a_dataset_without_states_has_none() -> None:
    assert labels(("ring", None), states=["intact", "damaged"]) == Labels(["ring"], [])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"classes": ["ring", "rign"]}, ["`preprocess.classes` names ['rign']", "['bolt', 'nut', 'ring']"]),
        ({"classes": ["x", "y"]}, ["no name of `preprocess.classes` ['x', 'y'] occurs", "['bolt', 'nut', 'ring']"]),
        ({"classes": ["ring", "ring"]}, ["`preprocess.classes` names something twice"]),
        ({"states": ["new"]}, ["no name of `preprocess.states` ['new'] occurs", "['absent', 'damaged', 'intact']"]),
        ({"states": ["intact", "intact"]}, ["`preprocess.states` names something twice"]),
    ],
)
def test_names_that_do_not_fit(changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        labels(*FOUND, **changes)
    for word in words:
        assert word in str(caught.value)


def test_a_class_is_missing_from_a_dataset_without_boxes() -> None:
    with pytest.raises(UserError, match="which do not occur"):
        labels(classes=["ring"])


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("trust_threshold", [-0.1, 1.1]),
        ("min_box_size", [-1]),
        ("duplicate_iou", [0, 1.1]),
        ("near_duplicate", [0]),
        ("on_error", ["skip"]),
        ("format", ["csv"]),
    ],
)
def test_parameters_out_of_range(key: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises(ValidationError, match=key):
            params(**{key: value})


def test_findings_sort_by_reason_first() -> None:
    found = sorted(clean(bolt(1, 1, 1, 9), bolt(-9, 1, 9, 9), bolt(math.nan, 1, 2, 3))[1])
    assert all(first.reason <= second.reason for first, second in pairwise(found))
