"""COCO files: stable ids, exact boxes, states, and files that pycocotools reads unchanged."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pydantic import ValidationError

from detector.manifest.manifest import CleanBox, CleanImage, Labels
from detector.splitting.coco_writer import (
    build_coco_dataset,
    describe_states,
    find_groups,
    write_coco,
)
from detector.splitting.settings import CocoConvertParams

LABELS = Labels(["ring", "bolt"], ["intact", "absent"])


def image(name: str, *boxes: CleanBox, size: tuple[int, int] = (64, 48)) -> CleanImage:
    return CleanImage(name, name, f"hash of {name}", *size, name, None, None, boxes)


def convert(*images: CleanImage, labels: Labels = LABELS, absent: Sequence[str] = ("absent",)) -> dict[str, Any]:
    return build_coco_dataset(images, labels, CocoConvertParams(absent_states=list(absent)))


def test_streamed_file_is_the_same(tmp_path: Path) -> None:
    box = CleanBox("bolt", (1.5, 2.25, 11.5, 7.25), "absent", 0.9)
    duplicate = replace(image("ä.jpg", box), group="a.jpg")
    for images in ([], [image("a.jpg")], [image("a.jpg", box, box), image("b.jpg"), duplicate]):
        params = CocoConvertParams(absent_states=["absent"])
        written = write_coco(tmp_path / "coco.json", iter(images), find_groups(images), LABELS, params)
        text = json.dumps(build_coco_dataset(images, LABELS, params), ensure_ascii=False, separators=(",", ":"))
        assert (tmp_path / "coco.json").read_text(encoding="utf-8") == text + "\n"
        assert written == (len(images), sum(len(each.boxes) for each in images))


def test_no_images() -> None:
    assert convert() == {
        "images": [],
        "annotations": [],
        "categories": [{"id": 1, "name": "ring"}, {"id": 2, "name": "bolt"}],
        "states": [{"id": 1, "name": "intact", "present": True}, {"id": 2, "name": "absent", "present": False}],
    }


def test_a_whole_file() -> None:
    boxes = (CleanBox("bolt", (1.5, 2.25, 11.5, 7.25), "absent", 0.9), CleanBox("ring", (0.0, 0.0, 64.0, 48.0)))
    found = convert(
        image("b.jpg"), image("a.jpg", *boxes), image("c.jpg", CleanBox("ring", (1, 1, 4, 4), iscrowd=True))
    )
    assert found["images"] == [
        {"id": number, "file_name": name, "width": 64, "height": 48, "content": f"hash of {name}"}
        for number, name in enumerate(["a.jpg", "b.jpg", "c.jpg"], 1)
    ]
    first = {"id": 1, "image_id": 1, "category_id": 2, "bbox": [1.5, 2.25, 10, 5], "area": 50, "iscrowd": 0, "state": 2}
    second = {"id": 2, "image_id": 1, "category_id": 1, "bbox": [0, 0, 64, 48], "area": 3072, "iscrowd": 0, "state": 0}
    third = {"id": 3, "image_id": 3, "category_id": 1, "bbox": [1, 1, 3, 3], "area": 9, "iscrowd": 1, "state": 0}
    assert found["annotations"] == [first, second, third]


def test_a_converted_image_names_the_file_of_the_dataset() -> None:
    entries = convert(image("a.png"), replace(image("b.png"), source="raw/b.tif"))["images"]
    assert [entry.get("converted_from") for entry in entries] == [None, "raw/b.tif"]


def test_image_order_does_not_matter() -> None:
    images = [image(f"{name}.jpg", CleanBox("ring", (0.0, 0.0, 4.0, 4.0))) for name in ("2", "10", "é", "Z", "a")]
    assert convert(*images) == convert(*images[::-1])
    assert [entry["file_name"] for entry in convert(*images)["images"]] == [
        "10.jpg",
        "2.jpg",
        "Z.jpg",
        "a.jpg",
        "é.jpg",
    ]


def test_dataset_without_states() -> None:
    found = convert(image("a", CleanBox("ring", (0.0, 0.0, 4.0, 4.0))), labels=Labels(["ring"], []))
    assert found["states"] == []
    assert found["annotations"][0]["state"] == 0


@pytest.mark.parametrize("absent", [[], ["absent"], ["absent", "intact"]])
def test_absent_states(absent: list[str]) -> None:
    states = convert(absent=absent)["states"]
    assert {state["name"] for state in states if not state["present"]} == set(absent)


def test_absent_state_that_does_not_occur_changes_nothing() -> None:
    assert convert(absent=["lost", "absent", "gone"]) == convert()
    assert all(state["present"] for state in convert(absent=["lost"])["states"])


def test_default_parameters_work_without_states() -> None:
    assert convert(labels=Labels(["ring"], []))["states"] == []


@pytest.mark.parametrize(
    ("states", "absent", "lines"),
    [
        (["intact", "absent", "damaged"], ["absent"], ["states: intact, damaged detectable; absent not"]),
        (["intact", "absent"], ["lost", "absent"], ["states: intact detectable; absent not"]),
        (["absent"], ["absent"], ["states: absent not detectable"]),
        (["intact", "damaged"], [], ["states: intact, damaged detectable"]),
        ([], ["absent"], ["states: none"]),
    ],
)
def test_states_are_described(states: list[str], absent: list[str], lines: list[str]) -> None:
    assert describe_states(states, CocoConvertParams(absent_states=absent)) == lines


def test_description_notes_absent_states_that_do_not_occur() -> None:
    first, note = describe_states(["intact", "worn"], CocoConvertParams(absent_states=["absent", "lost"]))
    assert first == "states: intact, worn detectable"
    assert "note" in note
    assert "absent_states" in note
    assert "absent, lost" in note


def test_absent_states_must_be_a_list() -> None:
    with pytest.raises(ValidationError, match="absent_states"):
        CocoConvertParams(absent_states="absent")  # type: ignore[arg-type]


pixels = st.floats(0, 4000).map(lambda value: round(value, 3))
corners = st.tuples(pixels, pixels, pixels, pixels).map(
    lambda c: (min(c[0], c[2]), min(c[1], c[3]), max(c[0], c[2]) + 0.001, max(c[1], c[3]) + 0.001)
)


@given(st.lists(corners.map(lambda c: tuple(round(value, 3) for value in c)), max_size=5))
def test_boxes_round_trip(boxes_xyxy: list[tuple[float, float, float, float]]) -> None:
    found = convert(image("a", *[CleanBox("ring", xyxy) for xyxy in boxes_xyxy], size=(4001, 4001)))
    read = json.loads(json.dumps(found))["annotations"]
    assert [annotation["id"] for annotation in read] == list(range(1, len(boxes_xyxy) + 1))
    for xyxy, annotation in zip(boxes_xyxy, read, strict=True):
        left, top, width, height = annotation["bbox"]
        assert (left, top, left + width, top + height) == pytest.approx(xyxy, abs=1e-6)
        assert width > 0
        assert height > 0
        assert annotation["area"] == pytest.approx(width * height, abs=1e-3)


def test_pycocotools_reads_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "train.json"
    images = [image(f"{n}.jpg", *[CleanBox("bolt", (1.0, 1.0, 9.0, 9.0), "intact")] * n) for n in range(3)]
    path.write_text(json.dumps(convert(*images)))
    coco = COCO(path)
    found = coco.loadRes([{"image_id": 2, "category_id": 2, "bbox": [1, 1, 8, 8], "score": 0.5}])
    printed = capsys.readouterr()
    assert printed.err == ""
    steps = ("loading annotations", "Loading and preparing", "Done (t=", "creating index", "index created", "DONE (t=")
    assert [line for line in printed.out.splitlines() if not line.startswith(steps)] == []
    assert coco.getImgIds() == [1, 2, 3]
    assert coco.getCatIds(catNms=["bolt"]) == [2]
    assert [len(coco.getAnnIds(imgIds=[number])) for number in (1, 2, 3)] == [0, 1, 2]
    assert len(found.anns) == 1


def test_related_images_share_a_group() -> None:
    def member(name: str, group: str, sequence: str | None) -> CleanImage:
        return CleanImage(name, name, name, 64, 48, group, sequence, None, ())

    images = [
        member("a", "a", "film"),
        member("b", "b", "film"),
        member("c", "b", None),  # a near-duplicate of b
        member("d", "d", "lone"),
        member("e", "e", None),
        member("f", "e", None),
    ]
    groups = {entry["file_name"]: entry.get("group") for entry in convert(*images)["images"]}
    assert groups == {"a": "film", "b": "film", "c": "film", "d": None, "e": "e", "f": "e"}
