"""COCO: boxes, states, layouts and their predefined splits, ignored parts, errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from detector.core.errors import UserError
from detector.preprocessing.findings import FindingKind, FindingLog
from detector.preprocessing.formats.coco import read_coco
from detector.preprocessing.raw_annotations import RawBox, RawImage


def annotation(**changes: Any) -> dict[str, Any]:
    return {"id": 9, "image_id": 1, "category_id": 7, "bbox": [10, 20, 30, 40.5], **changes}


def content(*annotations: Any, **changes: Any) -> dict[str, Any]:
    images = [{"id": 1, "file_name": "1.jpg"}]
    return {
        "images": images,
        "categories": [{"id": 7, "name": "wheel"}],
        "annotations": list(annotations),
        **changes,
    }


def write(folder: Path, value: Any, name: str = "annotations.json") -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(value), encoding="utf-8")


def read_content(folder: Path, value: Any, name: str = "annotations.json") -> list[RawImage]:
    write(folder, value, name)
    return list(read_coco(folder, FindingLog()))


def test_images_without_annotations_are_sorted_by_id(tmp_path: Path) -> None:
    images = [{"id": 3, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}]
    assert read_content(tmp_path, content(images=images)) == [
        RawImage("b.jpg", "annotations.json: image 1", ()),
        RawImage("a.jpg", "annotations.json: image 3", ()),
    ]


def test_bbox_becomes_xyxy_and_iscrowd_is_kept(tmp_path: Path) -> None:
    images = read_content(tmp_path, content(annotation(), annotation(id=10, iscrowd=1)))
    xyxy = (10.0, 20.0, 40.0, 60.5)
    assert images[0].boxes == (RawBox("wheel", xyxy), RawBox("wheel", xyxy, iscrowd=True))


def test_a_state_is_a_name_or_an_id(tmp_path: Path) -> None:
    annotations = [annotation(id=n, state=state) for n, state in enumerate(["torn", 4, None])]
    images = read_content(tmp_path, content(*annotations, states=[{"id": 4, "name": "intact"}]))
    assert [box.state for box in images[0].boxes] == ["torn", "intact", None]


def test_segmentations_and_keypoints_are_counted(tmp_path: Path) -> None:
    masks = annotation(segmentation=[[1, 2, 3, 4, 5, 6]], num_keypoints=3, keypoints=[1, 1, 2])
    empty = annotation(id=10, segmentation=[], num_keypoints=0, keypoints=[0, 0, 0])
    write(tmp_path, content(masks, empty))
    log = FindingLog()
    list(read_coco(tmp_path, log))
    assert log.counts() == {"note": {"ignored_keypoints": 1, "ignored_segmentation": 1}}


@pytest.mark.parametrize(
    ("name", "image_path", "split"),
    [
        ("annotations.json", "1.jpg", None),
        ("annotations.json", "images/1.jpg", None),
        ("annotations/instances_train2017.json", "train2017/1.jpg", "train"),
        ("annotations/instances_val2017.json", "images/val2017/1.jpg", "val"),
        ("annotations/test.json", "images/test/1.jpg", "test"),
        ("valid/_annotations.coco.json", "valid/1.jpg", "val"),
        ("train/_annotations.coco.json", "train/images/1.jpg", "train"),
        ("labels.json", "data/1.jpg", None),
        ("annotations/instances_default.json", "images/default/1.jpg", None),
        ("annotations/instances_night.json", "images/night/1.jpg", None),
        ("night/_annotations.coco.json", "night/1.jpg", None),
    ],
)
def test_layouts(tmp_path: Path, name: str, image_path: str, split: str | None) -> None:
    (tmp_path / image_path).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / image_path).touch()
    (image,) = read_content(tmp_path, content(), name)
    assert (image.path, image.split) == (image_path, split)


def test_no_split_is_inferred_from_the_dataset_folder(tmp_path: Path) -> None:
    assert read_content(tmp_path / "train", content())[0].split is None


def test_roboflow_splits_may_share_ids_and_names(tmp_path: Path) -> None:
    for split in ("train", "valid", "test"):
        write(tmp_path, content(annotation()), f"{split}/_annotations.coco.json")
        (tmp_path / split / "1.jpg").touch()
    images = list(read_coco(tmp_path, FindingLog()))
    assert [(image.path, image.split) for image in images] == [
        ("test/1.jpg", "test"),
        ("train/1.jpg", "train"),
        ("valid/1.jpg", "val"),
    ]


def test_captions_and_keypoints_next_to_instances_are_skipped(tmp_path: Path) -> None:
    for name in ("captions_val2017", "instances_val2017", "person_keypoints_val2017"):
        write(tmp_path, content(), f"annotations/{name}.json")
    log = FindingLog()
    assert len(list(read_coco(tmp_path, log))) == 1
    assert [(finding.kind, finding.where) for finding in log.listed] == [
        (FindingKind.SKIPPED_ANNOTATION_FILE, "annotations/captions_val2017.json"),
        (FindingKind.SKIPPED_ANNOTATION_FILE, "annotations/person_keypoints_val2017.json"),
    ]


def test_files_of_another_format(tmp_path: Path) -> None:
    write(tmp_path, {"images": [], "annotations": []}, "captions.json")
    write(tmp_path, [], "list.json")
    with pytest.raises(UserError, match=r'captions\.json: the key "categories" is missing\nlist\.json: expected'):
        list(read_coco(tmp_path, FindingLog()))
    write(tmp_path, content())
    log = FindingLog()
    assert len(list(read_coco(tmp_path, log))) == 1
    assert [(finding.kind, finding.where) for finding in log.listed] == [
        (FindingKind.SKIPPED_ANNOTATION_FILE, "captions.json"),
        (FindingKind.SKIPPED_ANNOTATION_FILE, "list.json"),
    ]
    assert '"categories"' in log.listed[0].details


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (content(images=[{"id": 1, "file_name": "a"}] * 2), ["images[1]: id: found 1", "unique id"]),
        (content(images=[{"id": n, "file_name": "a"} for n in (1, "1")]), ["images[1]: id: found 1", "unique id"]),
        (content(images=[{"id": 1.5, "file_name": "a"}]), ["images[0]: id: found 1.5"]),
        (content(images=[{"id": True, "file_name": "a"}]), ["images[0]: id: found true"]),
        (content(images=[{"id": 1}]), ["image 1", '"file_name" is missing']),
        (content(images={}), ["images: found {}", "a list"]),
        (content(annotations={}), ["annotations: found {}", "a list"]),
        (content(categories=[{"id": 7, "name": ""}]), ['category 7: name: found ""']),
        (content(categories=[{"id": 7, "name": "a\x1b[31m"}]), ["category 7: name: found"]),
    ],
)
def test_errors_give_file_object_and_value(tmp_path: Path, bad: Any, words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        read_content(tmp_path, bad)
    for word in ["annotations.json: ", *words]:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (annotation(image_id=2), ["image_id: found 2", "listed under images"]),
        (annotation(category_id=1), ["category_id: found 1", "under categories"]),
        (annotation(bbox=[]), ["bbox: found []", "4 numbers"]),
        (annotation(bbox=None), ["bbox: found null", "a list"]),
        (annotation(bbox=[1, 2, 3]), ["bbox: found [1, 2, 3]", "4 numbers"]),
        (annotation(bbox=[1, 2, 3, "4"]), ['bbox[3]: found "4"', "a number"]),
        (annotation(state=0), ["state: found 0", "listed under states"]),
        (annotation(state=[]), ["state: found []"]),
        (annotation(iscrowd=2), ["iscrowd: found 2", "0 or 1"]),
        ({"id": 9}, ['"image_id" is missing']),
        (5, ["found 5", "an object"]),
    ],
)
def test_an_annotation_that_cannot_be_read_is_dropped_and_counted(tmp_path: Path, bad: Any, words: list[str]) -> None:
    write(tmp_path, content(annotation(), bad, annotation(bbox=[1, 2, 3, 4])))
    log = FindingLog()
    (image,) = read_coco(tmp_path, log)
    assert len(image.boxes) == 2
    assert [(finding.kind, finding.where, finding.box) for finding in log.listed] == [
        (FindingKind.INVALID_BOX, "annotations.json: annotations[1]", 2)
    ]
    for word in words:
        assert word in log.listed[0].details


@pytest.mark.parametrize(
    "changes",
    [
        {"image_id": "1", "category_id": "7"},
        {"image_id": 1.0, "category_id": 7.0},
        {"id": "nine"},
        {"id": None},
        {"iscrowd": "0"},
        {"iscrowd": False},
    ],
)
def test_ids_and_flags_as_other_tools_write_them(tmp_path: Path, changes: dict[str, Any]) -> None:
    (image,) = read_content(tmp_path, content(annotation(), annotation(**changes)))
    assert image.boxes == (RawBox("wheel", (10.0, 20.0, 40.0, 60.5)),) * 2


def test_annotation_ids_are_not_needed(tmp_path: Path) -> None:
    without = {key: value for key, value in annotation().items() if key != "id"}
    assert len(read_content(tmp_path, content(without, without))[0].boxes) == 2


def test_image_ids_may_be_any_text(tmp_path: Path) -> None:
    images = [{"id": id_, "file_name": f"{id_}.jpg"} for id_ in ("b", "007", 12, "9")]
    found = read_content(tmp_path, content(annotation(image_id="007"), images=images))
    assert [(image.path, len(image.boxes)) for image in found] == [
        ("9.jpg", 0),
        ("12.jpg", 0),
        ("007.jpg", 1),
        ("b.jpg", 0),
    ]


def test_two_categories_of_one_name_are_one_class(tmp_path: Path) -> None:
    categories = [{"id": id_, "name": "wheel"} for id_ in (0, 7)]
    write(tmp_path, content(annotation(), annotation(category_id=0), categories=categories))
    log = FindingLog()
    (image,) = read_coco(tmp_path, log)
    assert [box.label for box in image.boxes] == ["wheel", "wheel"]
    assert log.counts() == {"note": {"repeated_class": 1}}


@pytest.mark.parametrize(
    "name", ["../x/images/1.jpg", "images\\1.jpg", "images/../images/1.jpg", "./images/1.jpg", "1.jpg"]
)
def test_an_image_is_found_by_any_spelling_of_its_path(tmp_path: Path, name: str) -> None:
    (tmp_path / "x/images").mkdir(parents=True)
    (tmp_path / "x/images/1.jpg").touch()
    (image,) = read_content(tmp_path / "x", content(images=[{"id": 1, "file_name": name}]))
    assert image.path == "images/1.jpg"


def test_files_in_annotations_and_beside_it_are_all_read(tmp_path: Path) -> None:
    for name in ("annotations/a", "b", "night/_annotations.coco", "annotations/._a", ".hidden/_annotations.coco"):
        images = [{"id": 1, "file_name": f"{Path(name).name}.jpg"}]
        write(tmp_path, content(images=images), f"{name}.json")
    (tmp_path / "annotations/c.JSON").write_text((tmp_path / "b.json").read_text().replace("b.jpg", "c.jpg"))
    found = [image.path for image in read_coco(tmp_path, FindingLog())]
    assert found == ["a.jpg", "c.jpg", "b.jpg", "_annotations.coco.jpg"]


def test_invalid_json_gives_the_line(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"images": [],\n "annotations" []}', encoding="utf-8")
    with pytest.raises(UserError, match=r"a\.json:2: .*delimiter"):
        list(read_coco(tmp_path, FindingLog()))


def test_no_annotations(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"found no \*\.json"):
        list(read_coco(tmp_path, FindingLog()))
