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
        (content(annotation(image_id=2)), ["annotation 9: image_id: found 2", "listed under images"]),
        (content(annotation(category_id=1)), ["annotation 9: category_id: found 1", "under categories"]),
        (content(annotation(bbox=[1, 2, 3])), ["annotation 9: bbox: found [1, 2, 3]", "4 numbers"]),
        (content(annotation(bbox=[1, 2, 3, "4"])), ['annotation 9: bbox[3]: found "4"', "a number"]),
        (content(annotation(state=0)), ["annotation 9: state: found 0", "listed under states"]),
        (content(annotation(state=[])), ["annotation 9: state: found []"]),
        (content(annotation(iscrowd=2)), ["annotation 9: iscrowd: found 2", "0 or 1"]),
        (content(annotation(), annotation()), ["annotations[1]: id: found 9", "unique id"]),
        (content({"id": 9}), ["annotation 9", '"image_id" is missing']),
        (content({}), ["annotations[0]", '"id" is missing']),
        (content(images=[{"id": 1, "file_name": "a"}] * 2), ["images[1]: id: found 1"]),
        (content(images=[{"id": "1", "file_name": "a"}]), ['images[0]: id: found "1"', "an integer"]),
        (content(images=[{"id": 1}]), ["image 1", '"file_name" is missing']),
        (content(images={}), ["images: found {}", "a list"]),
        (content(categories=[{"id": 7, "name": ""}]), ['category 7: name: found ""']),
    ],
)
def test_errors_give_file_object_and_value(tmp_path: Path, bad: Any, words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        read_content(tmp_path, bad)
    for word in ["annotations.json: ", *words]:
        assert word in str(error.value)


def test_invalid_json_gives_the_line(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"images": [],\n "annotations" []}', encoding="utf-8")
    with pytest.raises(UserError, match=r"a\.json:2: .*delimiter"):
        list(read_coco(tmp_path, FindingLog()))


def test_no_annotations(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"found no \*\.json"):
        list(read_coco(tmp_path, FindingLog()))
