"""Reading a COCO file entry by entry equals reading it at once; a damaged one is named."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detector.core.errors import UserError
from detector.engine import coco_stream
from detector.engine.annotations import AnnotationPacker
from detector.engine.coco_stream import read_ground_truth, read_packed
from detector.engine.dataset import pack_annotations, read_label_names
from detector.engine.ground_truth import GroundTruthPacker, pack_ground_truth

NAME = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
SIDE = st.floats(0, 500, width=32) | st.integers(0, 500)


@st.composite
def coco_files(draw: st.DrawFn) -> dict[str, Any]:
    ids = draw(st.lists(st.integers(1, 2**40), unique=True, max_size=4))
    entries = {"image_id": st.sampled_from(ids or [1]), "category_id": st.integers(1, 3), "state": st.integers(0, 2),
               "iscrowd": st.integers(0, 1), "bbox": st.lists(SIDE, min_size=4, max_size=4), "area": SIDE}  # fmt: skip
    image = {"file_name": NAME, "width": st.integers(1, 9), "height": st.integers(1, 9)}
    image_entries = st.fixed_dictionaries(image, optional={"content": NAME, "group": NAME})
    annotations = st.lists(st.fixed_dictionaries(entries), max_size=6 if ids else 0)
    coco = {
        "images": [{"id": number, **draw(image_entries)} for number in ids],
        "annotations": [{"id": number, **entry} for number, entry in enumerate(draw(annotations), 1)],
        "categories": [{"id": number, "name": draw(NAME)} for number in (1, 2, 3)],
        "states": draw(st.sampled_from([[], [{"id": 1, "name": "a", "present": True},
                                             {"id": 2, "name": "b", "present": False}]])),
    }  # fmt: skip
    return {key: coco[key] for key in draw(st.permutations(list(coco)))}


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(coco_files(), st.sampled_from([None, 1]), st.booleans(), st.integers(1, 40))
def test_reading_equals_packing_the_dictionary(
    tmp_path: Path, coco: dict[str, Any], indent: int | None, ascii_only: bool, block: int
) -> None:
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(coco, indent=indent, ensure_ascii=ascii_only), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(coco_stream, "BLOCK", block)
        packer = AnnotationPacker()
        annotations, names = read_packed(path, packer)
        truth, expected = read_ground_truth(path), pack_ground_truth(coco)
    for name, values in pack_annotations(coco)._asdict().items():
        streamed = getattr(annotations, name)
        assert (streamed.dtype, streamed.shape) == (values.dtype, values.shape), name
        assert streamed.tobytes() == values.tobytes(), name
    for streamed_part, part in ((truth.images, expected.images), (truth.objects, expected.objects)):
        for one, other in zip(streamed_part, part, strict=True):
            np.testing.assert_equal(one, other)
    assert names == truth.names == read_label_names(coco)
    assert packer.state_counts == Counter(annotation["state"] for annotation in coco["annotations"])


IMAGE = '{"id":1,"file_name":"1.jpg","width":4,"height":3,"content":"a"}'
OBJECT = '{"id":1,"image_id":1,"category_id":1,"bbox":[0,0,2,2],"area":4,"iscrowd":0,"state":0}'
FILE = f'{{"images":[{IMAGE}],"annotations":[{OBJECT}],"categories":[{{"id":1,"name":"ü"}}],"states":[]}}'


@pytest.mark.parametrize("block", [1, 2**20])
def test_every_truncated_file_is_named(block: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coco_stream, "BLOCK", block)
    path, content = tmp_path / "train.json", FILE.encode()
    path.write_bytes(content)
    assert len(read_packed(path, AnnotationPacker())[0].labels) == 1
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(UserError, match=rf"{path}.*(not valid JSON|not UTF-8)"):
            read_packed(path, AnnotationPacker())


def test_a_damaged_entry_is_found_without_reading_the_rest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file ends with a byte that is not UTF-8, which would be another error."""
    monkeypatch.setattr(coco_stream, "BLOCK", 64)
    monkeypatch.setattr(coco_stream, "MAX_ENTRY", 1000)
    path = tmp_path / "train.json"
    path.write_bytes(FILE.replace('"height":3', '"height":').encode() + b" " * 100_000 + b"\xff")
    with pytest.raises(UserError, match="not valid JSON: Expecting value at character 58"):
        read_packed(path, AnnotationPacker())


def test_a_long_entry_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(coco_stream, "BLOCK", 64)
    monkeypatch.setattr(coco_stream, "MAX_ENTRY", 1000)
    path = tmp_path / "train.json"
    path.write_text(FILE.replace("1.jpg", "1" * 900), encoding="utf-8")
    assert read_packed(path, AnnotationPacker())[0].paths.tolist() == ["1" * 900]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"images":[', '"images":[,', r"not valid JSON: Expecting value at character 11$"),
        (OBJECT, OBJECT + OBJECT, r"Expecting ',' or '\]' at character 176$"),
        ('"states":[]}', '"states":[]} x', "Expecting the end"),
        ('"states":[]}', '"states":[],}', "not valid JSON"),
        ("ü", "\udcff", "not UTF-8 text"),
        (',"states":[]', "", "states missing"),
        ('"states":[]', '"states":[],"images":[]', "KeyError"),
        ('"states":[]', '"states":[],"info":[]', "'info'"),
        ('"bbox":[0,0,2,2]', '"bbox":[0,0,2]', "not enough values"),
        ('"bbox":[0,0,2,2],', "", "'bbox'"),
        ('"image_id":1', '"image_id":7', r"KeyError\(7\)"),
        ('"image_id":1', '"image_id":"1"', "TypeError"),
        ('"width":4', '"width":99999999999', "OverflowError"),
        (OBJECT, "1", "TypeError"),
        (FILE, "[]", "Expecting '{' at character 0"),
    ],
)
def test_a_damaged_file_is_named_with_its_problem(old: str, new: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "train.json"
    path.write_bytes(FILE.replace(old, new).encode("utf-8", "surrogateescape"))
    for packer in (AnnotationPacker(), GroundTruthPacker()):
        with pytest.raises(UserError, match=message) as error:
            read_packed(path, packer)
        assert str(error.value).startswith(str(path))
