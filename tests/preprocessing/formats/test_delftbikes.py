"""DelftBikes JSON: labels, states, image folders, predefined splits, errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from detector.core.errors import UserError
from detector.preprocessing.findings import FindingKind, FindingLog
from detector.preprocessing.formats.delftbikes import read_delftbikes
from detector.preprocessing.raw_annotations import RawBox, RawImage

BOX_LTWH = {"left": 10, "top": 20, "width": 30.5, "height": 40}


def part(**changes: Any) -> dict[str, Any]:
    fields = {"part_name": "wheel", "object_state": "intact", "trust": 0.9, "absolute_bounding_box": BOX_LTWH}
    return {**fields, **changes}


def image(**parts: Any) -> dict[str, Any]:
    return {"image": {"channels": 3, "height": 100, "width": 100}, "parts": parts}


def read_content(folder: Path, content: Any, name: str = "bikes.json") -> list[RawImage]:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(content), encoding="utf-8")
    return list(read_delftbikes(folder, FindingLog()))


def test_images_without_parts(tmp_path: Path) -> None:
    images = read_content(tmp_path, {"1.jpg": image(), "0.jpg": image()})
    assert images == [RawImage(f"{n}.jpg", f"bikes.json: {n}.jpg", (), size=(100, 100)) for n in "01"]


def test_a_part_becomes_a_box(tmp_path: Path) -> None:
    boxes = read_content(tmp_path, {"0.jpg": image(w=part())})[0].boxes
    assert boxes == (RawBox("wheel", (10.0, 20.0, 40.5, 60.0), "intact", 0.9),)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ({"object_state": "absent"}, "absent"),
        ({"object_state": "absent", "object_state_class": 2}, "absent"),
        ({"object_state": 2, "object_state_class": "absent"}, "absent"),
        ({"object_state_class": "absent"}, "absent"),
        ({"object_state": None}, None),
        ({}, None),
    ],
)
def test_the_state_is_the_name(tmp_path: Path, states: dict[str, Any], expected: str | None) -> None:
    fields = {"part_name": "wheel", "absolute_bounding_box": BOX_LTWH, **states}
    assert read_content(tmp_path, {"0.jpg": image(w=fields)})[0].boxes[0].state == expected


def test_the_label_defaults_to_the_key(tmp_path: Path) -> None:
    nameless = {"absolute_bounding_box": BOX_LTWH}
    assert read_content(tmp_path, {"0.jpg": image(saddle=nameless)})[0].boxes == (
        RawBox("saddle", (10.0, 20.0, 40.5, 60.0)),
    )


@pytest.mark.parametrize(
    ("annotations", "image_path", "split"),
    [
        ("bikes.json", "0.jpg", None),
        ("bikes.json", "images/0.jpg", None),
        ("bikes.json", "bikes/0.jpg", None),
        ("bikes.json", "test/0.jpg", None),
        ("annotations/train_annotations.json", "train/0.jpg", "train"),
        ("test_annotations.json", "images/test/0.jpg", "test"),
        ("validation.json", "val/0.jpg", "val"),
        ("trainval.json", "trainval/0.jpg", None),
    ],
)
def test_images_are_found(tmp_path: Path, annotations: str, image_path: str, split: str | None) -> None:
    (tmp_path / image_path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / image_path).touch()
    (found,) = read_content(tmp_path, {"0.jpg": image()}, annotations)
    assert (found.path, found.split) == (image_path, split)


def test_splits_may_share_image_names(tmp_path: Path) -> None:
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        (tmp_path / split / "0.jpg").touch()
        images = read_content(tmp_path, {"0.jpg": image()}, f"{split}.json")
    assert [(image.path, image.split) for image in images] == [
        ("test/0.jpg", "test"),
        ("train/0.jpg", "train"),
    ]


def test_other_json_files_are_logged(tmp_path: Path) -> None:
    (tmp_path / "info.json").write_text('{"version": 1}', encoding="utf-8")
    with pytest.raises(UserError, match=r'info\.json: no image with "parts"'):
        list(read_delftbikes(tmp_path, FindingLog()))
    read_content(tmp_path, {"0.jpg": image()})
    log = FindingLog()
    assert len(list(read_delftbikes(tmp_path, log))) == 1
    assert [(finding.kind, finding.where) for finding in log.listed] == [
        (FindingKind.SKIPPED_ANNOTATION_FILE, "info.json")
    ]


@pytest.mark.parametrize(
    ("bad", "words"),
    [({}, ['"parts" is missing']), (5, ["found 5", "an object"]), ({"parts": 5}, ["parts: found 5"])],
)
def test_errors_give_file_image_and_value(tmp_path: Path, bad: Any, words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        read_content(tmp_path, {"0.jpg": image(), "bad.jpg": bad})
    for word in ["bikes.json: bad.jpg", *words]:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ([], ["found []", "an object"]),
        ({}, ['"absolute_bounding_box" is missing']),
        (part(absolute_bounding_box={}), ["absolute_bounding_box", '"left" is missing']),
        (part(absolute_bounding_box={**BOX_LTWH, "top": "9"}), ['top: found "9"', "a number"]),
        (part(part_name=7), ["part_name: found 7"]),
        (part(object_state=3), ["object_state: found 3", "the state's name"]),
        (part(trust="a"), ['trust: found "a"']),
    ],
)
def test_a_part_that_cannot_be_read_is_dropped_and_counted(tmp_path: Path, bad: Any, words: list[str]) -> None:
    (tmp_path / "bikes.json").write_text(json.dumps({"0.jpg": image(v=part(), w=bad, x=part())}), encoding="utf-8")
    log = FindingLog()
    (found,) = read_delftbikes(tmp_path, log)
    assert len(found.boxes) == 2
    assert [(finding.kind, finding.where, finding.box) for finding in log.listed] == [
        (FindingKind.INVALID_BOX, "bikes.json: 0.jpg", 2)
    ]
    for word in ["parts.w", *words]:
        assert word in log.listed[0].details


def test_a_repeated_image(tmp_path: Path) -> None:
    (tmp_path / "bikes.json").write_text('{"0.jpg": {"parts": {}}, "0.jpg": {"parts": {}}}', encoding="utf-8")
    with pytest.raises(UserError, match=r'bikes\.json.*the key "0\.jpg" is repeated'):
        list(read_delftbikes(tmp_path, FindingLog()))


def test_no_annotations(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"found no \*\.json"):
        list(read_delftbikes(tmp_path, FindingLog()))
