"""COCO files that users pass: what is wrong in one is named by its key."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from detector.comparison.coco_file import read_coco_file
from detector.core.errors import UserError

COCO: dict[str, Any] = {
    "images": [{"id": 1, "file_name": "1.png", "width": 80, "height": 40, "content": "c"},
               {"id": 2, "file_name": "2.png", "width": 80, "height": 40}],
    "annotations": [{"id": number, "image_id": number, "category_id": 3, "bbox": [0.5, 5, 20, 20], "area": 400,
                     "iscrowd": 0, "state": 0} for number in (1, 2)],
    "categories": [{"id": 3, "name": "a"}, {"id": 4, "name": "b"}],
    "states": [{"id": 1, "name": "whole", "present": True}],
    "info": {"anything": None},
}  # fmt: skip


def read(folder: Path, coco: object) -> dict[str, Any]:
    path = folder / "some.json"
    path.write_text(json.dumps(coco), encoding="utf-8")
    return read_coco_file(path)


def test_the_dictionary_is_that_of_the_file(tmp_path: Path) -> None:
    assert read(tmp_path, COCO) == COCO


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        (("images",), [], "`images` is []"),
        (("images", 0, "id"), "1", "`images.0.id` is '1'"),
        (("images", 0, "id"), 2, "`images.id`: '2' stands there twice"),
        (("images", 1, "file_name"), "1.png", "`images.file_name`: '1.png' stands there twice"),
        (("images", 0, "width"), 0, "`images.0.width` is 0"),
        (("images", 0, "height"), 40.5, "`images.0.height` is 40.5"),
        (("annotations", 1, "image_id"), 7, "`annotations.1.image_id` is 7"),
        (("annotations", 1, "category_id"), 1, "`annotations.1.category_id` is 1"),
        (("annotations", 1, "state"), 2, "`annotations.1.state` is 2"),
        (("annotations", 0, "bbox"), [0, 0, 5], "`annotations.0.bbox.3` is missing"),
        (("annotations", 0, "bbox"), [0, 0, 5, -1], "`annotations.0.bbox.3` is -1"),
        (("annotations", 0, "bbox"), [0, 0, 5, 1e300], "`annotations.0.bbox.3` is 1e+300"),
        (("annotations", 0, "bbox"), [0, None, 5, 1], "`annotations.0.bbox.1` is None"),
        (("annotations", 1, "bbox"), [80, 5, 20, 20], "outside its image 2.png, which has 80x40 pixels"),
        (("annotations", 1, "bbox"), [5, 40.5, 20, 20], "outside its image 2.png"),
        (("annotations", 1, "bbox"), [-20, 5, 20, 20], "outside its image 2.png"),
        (("annotations", 1, "bbox"), [5, -21, 20, 20], "outside its image 2.png"),
        (("images", 1, "file_name"), "a\nb.png", "the name has the control character U+000A"),
        (("categories", 1, "name"), "a\nb", "the name has the control character U+000A"),
        (("states", 0, "name"), "a\r", "the name has the control character U+000D"),
        (("annotations", 0, "iscrowd"), 2, "`annotations.0.iscrowd` is 2"),
        (("annotations", 0, "area"), True, "`annotations.0.area` is True"),
        (("categories", 1, "name"), "a", "`categories.name`: 'a' stands there twice"),
        (("categories", 1, "id"), 3, "`categories.id`: '3' stands there twice"),
        (("states", 0, "present"), 1, "`states.0.present` is 1"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, keys: tuple[Any, ...], value: object, said: str) -> None:
    coco = copy.deepcopy(COCO)
    place: Any = coco
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    with pytest.raises(UserError) as caught:
        read(tmp_path, coco)
    assert str(caught.value).startswith(f"{tmp_path / 'some.json'}: ")
    assert said in str(caught.value)
