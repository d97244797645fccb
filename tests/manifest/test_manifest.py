"""The manifest and the label names: plain JSON that survives a round trip."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.manifest.manifest import (
    CleanBox,
    CleanImage,
    Labels,
    read_compact_manifest,
    read_indexed_images,
    read_labels,
    read_manifest,
    read_manifest_index,
    write_labels,
    write_manifest,
)

names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
pixels = st.floats(0, 1e4).map(lambda value: round(value, 3))
boxes = st.builds(
    CleanBox,
    names,
    st.tuples(pixels, pixels, pixels, pixels),
    st.none() | names,
    st.none() | st.floats(0, 1),
    st.booleans(),
)
images = st.builds(
    CleanImage,
    image=names,
    source=names,
    content=st.text("0123456789abcdef", min_size=16, max_size=16),
    width=st.integers(1, 9999),
    height=st.integers(1, 9999),
    group=names,
    sequence=st.none() | names,
    split=st.none() | st.sampled_from(["train", "val", "test"]),
    boxes=st.lists(boxes, max_size=3).map(tuple),
)


@given(st.lists(images, max_size=4))
def test_round_trip(tmp_path_factory: pytest.TempPathFactory, written: list[CleanImage]) -> None:
    path = tmp_path_factory.getbasetemp() / "manifest.jsonl"
    write_manifest(path, written)
    assert list(read_manifest(path)) == written
    compact = list(read_compact_manifest(path))
    assert [replace(image, boxes=()) for image in compact] == [replace(image, boxes=()) for image in written]
    assert [[(box.label, box.state) for box in image.boxes] for image in compact] == [
        [(box.label, box.state) for box in image.boxes] for image in written
    ]
    last = {image.image: image for image in written}  # the last image of each path
    index = read_manifest_index(path)
    assert list(read_indexed_images(path, reversed(index.values()))) == list(reversed([last[name] for name in index]))
    assert [(entry.group, entry.sequence) for entry in index.values()] == [
        (last[name].group, last[name].sequence) for name in index
    ]


def test_one_plain_record_per_line(tmp_path: Path) -> None:
    image = CleanImage("räder/1.jpg", "räder/1.jpg", "00", 8, 6, "räder/1.jpg", None, "val", ())
    path = tmp_path / "manifest.jsonl"
    write_manifest(path, [image])
    assert path.read_text(encoding="utf-8") == (
        '{"image":"räder/1.jpg","source":"räder/1.jpg","content":"00","width":8,"height":6,'
        '"group":"räder/1.jpg","sequence":null,"split":"val","boxes":[]}\n'
    )


def test_boxes_are_records_with_field_names(tmp_path: Path) -> None:
    box = CleanBox("wheel", (0.0, 1.5, 2.0, 3.125), state="intact", trust=0.5)
    write_manifest(tmp_path / "m", [CleanImage("a", "a", "00", 8, 6, "a", None, None, (box,))])
    assert json.loads((tmp_path / "m").read_text())["boxes"] == [
        {"label": "wheel", "xyxy": [0.0, 1.5, 2.0, 3.125], "state": "intact", "trust": 0.5, "iscrowd": False}
    ]


@given(st.lists(names, unique=True, max_size=4), st.lists(names, unique=True, max_size=4))
def test_labels_round_trip(tmp_path_factory: pytest.TempPathFactory, classes: list[str], states: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "labels.json"
    write_labels(path, Labels(classes, states))
    assert read_labels(path) == Labels(classes, states)
