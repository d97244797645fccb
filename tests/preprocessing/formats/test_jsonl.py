"""JSON Lines: fields, errors with file and line, the blood-cell dataset, and arbitrary lines."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.errors import UserError
from detector.preprocessing.findings import FindingKind, FindingLog
from detector.preprocessing.formats.jsonl import read_jsonl
from detector.preprocessing.raw_annotations import RawBox, RawImage

BCCD = Path(__file__).parents[3].parent / "shared/datasets/bccd"


def box(**changes: Any) -> dict[str, Any]:
    corners = {
        "x_min_normalized": 0.1,
        "y_min_normalized": 0.2,
        "x_max_normalized": 0.3,
        "y_max_normalized": 1,
    }
    return {"annotation_label": "wheel", **corners, **changes}


def line(**changes: Any) -> str:
    return json.dumps({"image_path": "data/1.jpg", "bounding_box_annotations": [], **changes})


def read_lines(folder: Path, *lines: str, name: str = "dataset.jsonl") -> list[RawImage]:
    (folder / name).write_text("\n".join(lines), encoding="utf-8")
    return list(read_jsonl(folder, FindingLog()))


def test_an_empty_file_has_no_images(tmp_path: Path) -> None:
    assert read_lines(tmp_path, "") == []


def test_all_fields(tmp_path: Path) -> None:
    full = line(
        bounding_box_annotations=[box(state="damaged", trust=1), box(state=None, trust=None, color="red")],
        classification_annotations=[
            {"annotation_label": "night"},
            {"annotation_label": "sequence_17--frame--2"},
        ],
        split="val",
        camera=3,
    )
    xyxy = (0.1, 0.2, 0.3, 1.0)
    boxes = (RawBox("wheel", xyxy, "damaged", 1.0), RawBox("wheel", xyxy))
    expected = RawImage("data/1.jpg", "dataset.jsonl:2", boxes, normalized=True, sequence="17", split="val")
    assert read_lines(tmp_path, "", full, "  ", line())[0] == expected


@pytest.mark.parametrize(
    ("given_path", "expected"),
    [
        ("./data/1.jpg", "data/1.jpg"),
        ("{folder}/data/1.jpg", "data/1.jpg"),
        ("data/../1.jpg", "1.jpg"),
        ("../1.jpg", "{parent}/1.jpg"),
        ("/elsewhere/1.jpg", "/elsewhere/1.jpg"),
    ],
)
def test_paths_are_relative_inside_the_folder_and_absolute_outside(
    tmp_path: Path, given_path: str, expected: str
) -> None:
    places = {"folder": tmp_path.resolve().as_posix(), "parent": tmp_path.resolve().parent.as_posix()}
    images = read_lines(tmp_path, line(image_path=given_path.format(**places)))
    assert images[0].path == expected.format(**places)


def test_a_linked_image_folder_counts_as_inside(tmp_path: Path) -> None:
    folder, store = tmp_path / "raw", tmp_path / "store"
    folder.mkdir()
    store.mkdir()
    (folder / "data").symlink_to(store)
    assert read_lines(folder, line())[0].path == "data/1.jpg"


def test_out_of_range_numbers_pass(tmp_path: Path) -> None:
    source = line(bounding_box_annotations=[box(x_min_normalized=math.nan, y_min_normalized=-7)])
    source = source.replace("0.3", "1" + "0" * 400)
    left, top, right, _ = read_lines(tmp_path, source)[0].boxes[0].xyxy
    assert math.isnan(left)
    assert (top, right) == (-7.0, math.inf)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ("{", ["valid JSON", "column 2", "the end"]),
        ("[1]", ["[1]", "an object"]),
        ("[" * 100_000, ["invalid JSON"]),
        (line()[:-1] + ', "image_path": "2.jpg"}', ['"image_path"', "repeated"]),
        ("{}", ['"image_path" is missing']),
        ('{"image_path": "1.jpg"}', ['"bounding_box_annotations" is missing']),
        (line(image_path=3), ["image_path: found 3", "string"]),
        (line(bounding_box_annotations=None), ["bounding_box_annotations: found null", "a list"]),
        (line(split="valid"), ['split: found "valid"', "train, val or test"]),
        (
            line(classification_annotations=[{"annotation_label": f"sequence_{n}--"} for n in "ab"]),
            ["['a', 'b']", "at most one sequence"],
        ),
    ],
)
def test_errors_give_file_line_and_value(tmp_path: Path, bad: str, words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        read_lines(tmp_path, line(), "", bad)
    for word in ["dataset.jsonl:3", *words]:
        assert word in str(error.value)
    assert len(str(error.value)) < 300


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (5, ["found 5", "an object"]),
        (box(x_max_normalized="0.5"), ['x_max_normalized: found "0.5"']),
        (box(x_max_normalized=True), ["found true", "a number"]),
        (box(annotation_label="\ud800"), ["annotation_label: found"]),
        (box(annotation_label="a\uffff"), ["annotation_label: found"]),
        (box(annotation_label="a\n=b"), ["annotation_label: found"]),
        (box(trust="high"), ['trust: found "high"']),
        (box(state=2), ["state: found 2"]),
    ],
)
def test_a_box_that_cannot_be_read_is_dropped_and_counted(tmp_path: Path, bad: Any, words: list[str]) -> None:
    (tmp_path / "dataset.jsonl").write_text(line(bounding_box_annotations=[box(), bad, box()]), encoding="utf-8")
    log = FindingLog()
    (image,) = read_jsonl(tmp_path, log)
    assert len(image.boxes) == 2
    assert [(finding.kind, finding.where, finding.box) for finding in log.listed] == [
        (FindingKind.INVALID_BOX, "dataset.jsonl:1", 2)
    ]
    for word in ["bounding_box_annotations[1]", *words]:
        assert word in log.listed[0].details


def test_byte_order_mark_and_undecodable_bytes(tmp_path: Path) -> None:
    path = tmp_path / "dataset.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + line(image_path="ü.jpg").encode())
    assert [image.path for image in read_jsonl(tmp_path, FindingLog())] == ["ü.jpg"]
    path.write_bytes(line().encode() + b'\n{"image_path": "\xfc.jpg"}')
    with pytest.raises(UserError, match=r"dataset\.jsonl:2: found the byte 0xfc, expected UTF-8"):
        list(read_jsonl(tmp_path, FindingLog()))


def test_the_only_file_may_have_another_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"found no \*\.jsonl, expected dataset\.jsonl"):
        list(read_jsonl(tmp_path, FindingLog()))
    assert read_lines(tmp_path, line(), name="b.jsonl")[0].where == "b.jsonl:1"
    with pytest.raises(UserError, match=r"found a\.jsonl, b\.jsonl"):
        read_lines(tmp_path, line(), name="a.jsonl")
    assert read_lines(tmp_path, line())[0].where == "dataset.jsonl:1"


def test_blood_cell_dataset() -> None:
    if not BCCD.exists():
        pytest.skip("the blood-cell dataset is not next to the repository")
    log = FindingLog()
    images = list(read_jsonl(BCCD, log))
    assert (len(images), sum(len(image.boxes) for image in images), log.counts()) == (364, 4888, {})
    assert {box.label for image in images for box in image.boxes} == {"RBC", "WBC", "Platelets"}
    assert all((BCCD / image.path).is_file() for image in images)


KEYS = st.sampled_from([*json.loads(line(split="val", classification_annotations=[])), *box(state="a", trust=1)])
VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=8),
    max_leaves=12,
)
LINES = VALUES.map(json.dumps) | st.text(max_size=30) | st.dictionaries(KEYS, VALUES).map(lambda d: line(**d))


@settings(max_examples=150)
@given(st.lists(LINES, max_size=3))
def test_arbitrary_lines_give_records_or_user_errors(lines: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "dataset.jsonl").write_bytes("\n".join(lines).encode("utf-8", "surrogatepass"))
        images, message = [], "dataset.jsonl:"
        try:
            images = list(read_jsonl(Path(folder), FindingLog()))
        except UserError as error:
            message = str(error)
    assert "dataset.jsonl:" in message
    assert all(isinstance(x, float) for image in images for box in image.boxes for x in box.xyxy)
