"""Datasets as other tools write them: each is recognized, and every image has its boxes and its split."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from detector.core.errors import UserError
from detector.preprocessing.findings import FindingLog
from detector.preprocessing.formats import READERS
from detector.preprocessing.formats.recognition import recognize_format

Files = dict[str, Any]  # path -> text, or what is written as JSON


class Layout(NamedTuple):
    """format: what has to be recognized. images: path -> (split, number of boxes). counts: of findings by kind."""

    format: str
    files: Files
    images: dict[str, tuple[str | None, int]]
    counts: dict[str, int] = {}  # noqa: RUF012  never changed


def line(path: str, boxes: int = 1, **more: Any) -> str:
    keys = ("x_min_normalized", "y_min_normalized", "x_max_normalized", "y_max_normalized")
    box = {"annotation_label": "cell", **dict(zip(keys, (0.1, 0.1, 0.5, 0.5), strict=True))}
    return json.dumps({"image_path": path, "bounding_box_annotations": [box] * boxes, **more}) + "\n"


def coco(*names: str, **more: Any) -> dict[str, Any]:
    """One box per image."""
    images = [{"id": id_, "file_name": name, "width": 64, "height": 48} for id_, name in enumerate(names, 1)]
    box = {"category_id": 1, "bbox": [1, 2, 30, 20], "area": 600, "iscrowd": 0, "segmentation": []}
    boxes = [{"id": id_, "image_id": id_, **box} for id_ in range(1, len(names) + 1)]
    return {**more, "images": images, "categories": [{"id": 1, "name": "cell"}], "annotations": boxes}


def voc(filename: str, **more: str) -> str:
    extra = "".join(f"<{tag}>{text}</{tag}>" for tag, text in more.items())
    box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>30</xmax><ymax>20</ymax></bndbox>"
    return f"<annotation>{extra}<filename>{filename}</filename><object><name>cell</name>{box}</object></annotation>"


def beside(*images: str) -> Files:
    """Empty image files."""
    return dict.fromkeys(images, "")


LABEL = "0 0.5 0.5 0.25 0.25\n"
ROBOFLOW_YAML = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\nnc: 1\nnames: ['cell']\n"
CVAT_INFO = {"licenses": [{"name": "", "id": 0, "url": ""}], "info": {"contributor": "", "year": ""}}
STUDIO_NOTES = {"categories": [{"id": 0, "name": "cell"}], "info": {"year": 2026, "contributor": "Label Studio"}}

LAYOUTS: dict[str, Layout] = {
    "jsonl, paths from the folder": Layout(
        "jsonl", {"dataset.jsonl": line("data/1.jpg"), **beside("data/1.jpg")}, {"data/1.jpg": (None, 1)}
    ),
    "jsonl, paths from data": Layout(
        "jsonl", {"dataset.jsonl": line("night/1.jpg"), **beside("data/night/1.jpg")}, {"data/night/1.jpg": (None, 1)}
    ),
    "jsonl, a file per split": Layout(
        "jsonl",
        {"train.jsonl": line("data/1.jpg"), "val.jsonl": line("2.jpg"), "test.jsonl": line("3.jpg", split="val"),
         **beside("data/1.jpg", "val/2.jpg", "data/3.jpg")},
        {"data/1.jpg": ("train", 1), "val/2.jpg": ("val", 1), "data/3.jpg": ("val", 1)},
    ),
    "jsonl, a folder per split": Layout(
        "jsonl",
        {"train/labels.jsonl": line("1.jpg"), "valid/labels.jsonl": line("1.jpg", 2),
         **beside("train/1.jpg", "valid/1.jpg")},
        {"train/1.jpg": ("train", 1), "valid/1.jpg": ("val", 2)},
    ),
    "voc, Roboflow": Layout(
        "voc",
        {"train/a_jpg.rf.1f.xml": voc("a_jpg.rf.1f.jpg", folder="", path="a_jpg.rf.1f.jpg"),
         "valid/b.xml": voc("b.jpg"), "README.roboflow.txt": "Exported on May 1\n",
         **beside("train/a_jpg.rf.1f.jpg", "valid/b.jpg")},
        {"train/a_jpg.rf.1f.jpg": ("train", 1), "valid/b.jpg": ("val", 1)},
        {"unused_file": 1},
    ),
    "voc, Kaggle": Layout(
        "voc",
        {"annotations/road0.xml": voc("road0.png", folder="images"), "annotations/road1.xml": voc("road1.png"),
         **beside("images/road0.png", "images/road1.png", "masks/road1.png")},
        {"images/road0.png": (None, 1), "images/road1.png": (None, 1)},
        {"unused_image": 1},
    ),
    "voc, nested": Layout(
        "voc",
        {"VOCdevkit/VOC2007/Annotations/1.xml": voc("1.jpg"), "VOCdevkit/VOC2012/Annotations/1.xml": voc("1.jpg"),
         "VOCdevkit/VOC2007/ImageSets/Main/train.txt": "1\n", "VOCdevkit/VOC2012/ImageSets/Main/val.txt": "1\n",
         **beside("VOCdevkit/VOC2007/JPEGImages/1.jpg", "VOCdevkit/VOC2012/JPEGImages/1.jpg",
                  "VOCdevkit/VOC2012/SegmentationClass/1.png")},
        {"VOCdevkit/VOC2007/JPEGImages/1.jpg": ("train", 1), "VOCdevkit/VOC2012/JPEGImages/1.jpg": ("val", 1)},
        {"unused_image": 1},
    ),
    "voc, FiftyOne": Layout(
        "voc", {"labels/1.xml": voc("1.jpg"), **beside("data/1.jpg")}, {"data/1.jpg": (None, 1)}
    ),
    "yolo, Roboflow": Layout(
        "yolo",
        {"data.yaml": ROBOFLOW_YAML, "train/labels/1.txt": LABEL, "valid/labels/2.txt": LABEL * 2,
         **beside("train/images/1.jpg", "valid/images/2.jpg")},
        {"train/images/1.jpg": ("train", 1), "valid/images/2.jpg": ("val", 2)},
        {"missing_test_images": 1},
    ),
    "yolo, FiftyOne": Layout(
        "yolo",
        {"dataset.yaml": "names:\n  0: cell\npath: .\ntrain: ./images/train/\nval: ./images/val/\n",
         "labels/train/1.txt": LABEL, "labels/val/2.txt": LABEL, **beside("images/train/1.jpg", "images/val/2.jpg")},
        {"images/train/1.jpg": ("train", 1), "images/val/2.jpg": ("val", 1)},
    ),
    "yolo, a notebook's absolute paths": Layout(
        "yolo",
        {"data.yaml": "names: [cell]\ntrain: /content/cells-1/train/images\nval: /content/cells-1/valid/images\n",
         "train/labels/1.txt": LABEL, "valid/labels/2.txt": LABEL,
         **beside("train/images/1.jpg", "valid/images/2.jpg")},
        {"train/images/1.jpg": ("train", 1), "valid/images/2.jpg": ("val", 1)},
    ),
    "yolo, CVAT 1.1 (darknet)": Layout(
        "yolo",
        {"obj.data": "classes = 1\ntrain = data/train.txt\nvalid = data/valid.txt\nnames = data/obj.names\n",
         "obj.names": "cell\n", "train.txt": "data/obj_train_data/1.jpg\n", "valid.txt": "data/obj_valid_data/2.jpg\n",
         "obj_train_data/1.txt": LABEL, "obj_valid_data/2.txt": LABEL,
         **beside("obj_train_data/1.jpg", "obj_valid_data/2.jpg")},
        {"obj_train_data/1.jpg": ("train", 1), "obj_valid_data/2.jpg": ("val", 1)},
        {"image_found_elsewhere": 2},
    ),
    "yolo, Label Studio": Layout(
        "yolo",
        {"classes.txt": "cell\n", "notes.json": STUDIO_NOTES, "labels/0a1b2c3d-1.txt": LABEL,
         **beside("images/0a1b2c3d-1.jpg")},
        {"images/0a1b2c3d-1.jpg": (None, 1)},
        {"unused_file": 1},
    ),
    "yolo, LabelImg": Layout(
        "yolo", {"classes.txt": "cell\n", "1.txt": LABEL, **beside("1.jpg", "2.jpg")},
        {"1.jpg": (None, 1), "2.jpg": (None, 0)},
        {"missing_label_file": 1},
    ),
    "yolo, lists of files": Layout(
        "yolo",
        {"classes.txt": "cell\n", "train.txt": "images/1.jpg\n", "val.txt": "/home/me/cells/images/2.jpg\n",
         "labels/1.txt": LABEL, "labels/2.txt": LABEL, **beside("images/1.jpg", "images/2.jpg")},
        {"images/1.jpg": ("train", 1), "images/2.jpg": ("val", 1)},
        {"image_found_elsewhere": 1},
    ),
    "coco, CVAT": Layout(
        "coco",
        {"annotations/instances_Train.json": coco("night/1.jpg", **CVAT_INFO),
         "annotations/instances_default.json": coco("2.jpg", **CVAT_INFO),
         **beside("images/Train/night/1.jpg", "images/default/2.jpg")},
        {"images/Train/night/1.jpg": ("train", 1), "images/default/2.jpg": (None, 1)},
    ),
    "coco, Label Studio": Layout(
        "coco",
        {"result.json": coco("images/0a1b2c3d-1.jpg", "images\\0a1b2c3d-2.jpg", "/data/upload/1/4e5f6a7b-a%20b.jpg"),
         **beside("images/0a1b2c3d-1.jpg", "images/0a1b2c3d-2.jpg", "images/a b.jpg")},
        {"images/0a1b2c3d-1.jpg": (None, 1), "images/0a1b2c3d-2.jpg": (None, 1), "images/a b.jpg": (None, 1)},
        {"image_found_elsewhere": 1},
    ),
    "coco, Roboflow": Layout(
        "coco",
        {"train/_annotations.coco.json": coco("1_jpg.rf.1f.jpg", info={"year": "2026"}),
         "valid/_annotations.coco.json": coco("2_jpg.rf.2f.jpg"),
         **beside("train/1_jpg.rf.1f.jpg", "valid/2_jpg.rf.2f.jpg")},
        {"train/1_jpg.rf.1f.jpg": ("train", 1), "valid/2_jpg.rf.2f.jpg": ("val", 1)},
    ),
    "coco, FiftyOne": Layout(
        "coco", {"labels.json": coco("1.jpg", info={}), **beside("data/1.jpg")}, {"data/1.jpg": (None, 1)}
    ),
    "coco, FiftyOne without copies of the images": Layout(
        "coco", {"labels.json": coco("/home/me/fiftyone/cells/1.JPG"), **beside("photos/1.jpg")},
        {"photos/1.jpg": (None, 1)},
        {"image_found_elsewhere": 1},
    ),
    "parts, DelftBikes": Layout(
        "parts",
        {"train_annotations.json": {"0.jpg": {"image": {}, "parts": {"bell": {
            "part_name": "bell", "object_state": "intact",
            "absolute_bounding_box": {"left": 1, "top": 2, "width": 9, "height": 9}}}}}, **beside("train/0.jpg")},
        {"train/0.jpg": ("train", 1)},
    ),
}  # fmt: skip


def write_files(folder: Path, files: Files) -> None:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str) else json.dumps(content)
        (folder / name).write_text(text, encoding="utf-8")


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_of_another_tool_is_recognized_and_read(name: str, tmp_path: Path) -> None:
    layout = LAYOUTS[name]
    write_files(tmp_path, layout.files)
    assert recognize_format(tmp_path).format == layout.format
    log = FindingLog()
    images = list(READERS[layout.format](tmp_path, log))
    assert {image.path: (image.split, len(image.boxes)) for image in images} == layout.images
    assert {box.label for image in images for box in image.boxes} <= {"cell", "bell"}
    counts = {kind: count for kinds in log.counts().values() for kind, count in kinds.items()}
    listed = {kind: count for kind, count in layout.counts.items() if not kind.startswith("unused")}
    assert counts == listed


COPIED: dict[str, Files] = {  # {} is the folder of the original
    "jsonl": {"dataset.jsonl": line("{}/images/1.jpg") + line("{}/images/2.jpg")},
    "coco": {"labels.json": json.dumps(coco("{}/images/1.jpg", "{}/images/2.jpg"))},
    "yolo": {"data.yaml": "path: {}\nnames: [cell]\ntrain: images\n", "labels/1.txt": LABEL, "labels/2.txt": LABEL},
    "yolo, absolute folder": {"data.yaml": "names: [cell]\ntrain: {}/images\n", "labels/1.txt": LABEL},
    "yolo, absolute list": {
        "data.yaml": "names: [cell]\ntrain: {}/train.txt\n", "train.txt": "{}/images/1.jpg\n{}/images/2.jpg\n",
        "labels/1.txt": LABEL},
}  # fmt: skip


@pytest.mark.parametrize("name", COPIED)
def test_a_copy_does_not_read_the_original(name: str, tmp_path: Path) -> None:
    original, copy = tmp_path / "original", tmp_path / "copy"
    files = {path: text.replace("{}", str(original)) for path, text in COPIED[name].items()}
    write_files(original, {**files, **beside("images/1.jpg", "images/2.jpg")})
    shutil.copytree(original, copy)
    log = FindingLog()
    images = list(READERS[name.partition(",")[0]](copy, log))
    assert [image.path for image in images] == ["images/1.jpg", "images/2.jpg"]
    assert not any(image.where.startswith("/") for image in images)
    assert all(Path(path).is_relative_to(copy) for path in log.annotation_files)
    assert "outside_image" not in log.counts().get("note", {})


@pytest.mark.parametrize("name", COPIED)
def test_images_that_are_only_outside_are_used_and_counted(name: str, tmp_path: Path) -> None:
    original, copy = tmp_path / "original", tmp_path / "copy"
    files = {path: text.replace("{}", str(original)) for path, text in COPIED[name].items()}
    write_files(original, {**files, **beside("images/1.jpg", "images/2.jpg")})
    write_files(copy, files)
    log = FindingLog()
    images = list(READERS[name.partition(",")[0]](copy, log))
    assert [image.path for image in images] == [f"{original}/images/1.jpg", f"{original}/images/2.jpg"]
    assert log.counts()["note"]["outside_image"] == 2


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({}, ["found 0 images, but no annotations", "docs/data.md"]),
        (beside("1.jpg", "2.png"), ["found 2 images"]),
        ({"train.txt": "1.jpg\n", "labels/1.txt": LABEL}, ["YOLO labels", "classes.txt"]),
        ({"annotations.xml": "<?xml version='1.0'?>\n<annotations></annotations>"}, ["CVAT's own XML", "COCO"]),
        ({"cells/dataset.jsonl": line("1.jpg")}, ["cells holds one (jsonl)", "name that folder"]),
        ({"notes.json": STUDIO_NOTES, **beside("1.jpg")}, ["found 1 images"]),
        (
            {"dataset.jsonl": line("1.jpg"), "labels.json": coco("1.jpg")},
            ["jsonl (dataset.jsonl) and coco (labels.json)", "-S preprocess.format=jsonl"],
        ),
        (
            {"data.yaml": ROBOFLOW_YAML, "Annotations/1.xml": voc("1.jpg")},
            ["yolo (data.yaml) and voc (Annotations/1.xml)"],
        ),
    ],
)
def test_a_folder_that_is_not_clear(files: Files, words: list[str], tmp_path: Path) -> None:
    write_files(tmp_path, files)
    with pytest.raises(UserError) as error:
        recognize_format(tmp_path)
    for word in [str(tmp_path), *words]:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"dataset.jsonl": line("1.jpg"), "voc/Annotations/1.xml": voc("1.jpg")}, "voc (voc/Annotations/1.xml)"),
        ({"labels.json": coco("1.jpg"), "classes.txt": "cell\n", "readme.txt": "0 and more"}, ""),
        ({"Annotations/1.xml": voc("1.jpg"), "classes.txt": "cell\n", "config.yaml": "names: [a]\nx: 1"}, ""),
        ({"shard-00000.tar": "", "shard-00000.jsonl": line("x")}, ""),
    ],
)
def test_what_lies_beside_does_not_matter(files: Files, expected: str, tmp_path: Path) -> None:
    write_files(tmp_path, files)
    assert recognize_format(tmp_path).others == expected
