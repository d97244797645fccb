"""YOLO: label lines, layouts and their common deviations, errors, a round trip of boxes."""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.errors import UserError
from detector.preprocessing.findings import FindingKind, FindingLog
from detector.preprocessing.formats.yolo import read_yolo
from detector.preprocessing.raw_annotations import RawBox, RawImage

NAMES = "names: [wheel, saddle]\n"


def write(folder: Path, files: dict[str, str]) -> None:
    for name, source in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(source, encoding="utf-8")


def dataset(folder: Path, labels: str, config: str = NAMES) -> list[RawImage]:
    """Read a dataset of one image."""
    files = {"images/train/1.jpg": "", "labels/train/1.txt": labels}
    write(folder, {"data.yaml": f"{config}\ntrain: images/train\n", **files})
    return list(read_yolo(folder, FindingLog()))


def test_an_empty_label_file(tmp_path: Path) -> None:
    expected = RawImage("images/train/1.jpg", "labels/train/1.txt", (), normalized=True, split="train")
    assert dataset(tmp_path, "") == [expected]


def test_boxes(tmp_path: Path) -> None:
    assert dataset(tmp_path, "0 0.5 0.5 0.5 0.25\n\n1.0 0 0 1 1\r\n")[0].boxes == (
        RawBox("wheel", (0.25, 0.375, 0.75, 0.625)),
        RawBox("saddle", (-0.5, -0.5, 0.5, 0.5)),
    )


def test_polygons_are_read_as_their_bounding_boxes(tmp_path: Path) -> None:
    dataset(tmp_path, "1 0.5 0.1 0.9 0.5 0.5 0.9 0.1 0.5\n1 0.5 0.1 nan 0.5 0.5 0.9\n")
    log = FindingLog()
    (image,) = read_yolo(tmp_path, log)
    assert image.boxes[0] == RawBox("saddle", (0.1, 0.1, 0.9, 0.9))
    assert all(math.isnan(x) for x in image.boxes[1].xyxy)
    assert log.counts() == {"note": {"polygon_as_box": 2}}


def test_keypoints_are_ignored(tmp_path: Path) -> None:
    dataset(tmp_path, "0 0.5 0.5 1 1 0.1 0.2 2 0.3 0.4 2\n", NAMES + "kpt_shape: [2, 3]")
    log = FindingLog()
    (image,) = read_yolo(tmp_path, log)
    assert image.boxes == (RawBox("wheel", (0.0, 0.0, 1.0, 1.0)),)
    assert log.counts() == {"note": {"ignored_keypoints": 1}}


@pytest.mark.parametrize(
    ("names", "expected"),
    [("[wheel]", "wheel"), ("{0: wheel}", "wheel"), ("[no]", "no"), ("\n  0: 12\n  5: x", "12")],
)
def test_names(tmp_path: Path, names: str, expected: str) -> None:
    assert dataset(tmp_path, "0 0 0 1 1", f"names: {names}")[0].boxes[0].label == expected


@pytest.mark.parametrize(
    ("config", "image", "label"),
    [
        ("train: images/train", "images/train/1.jpg", "labels/train/1.txt"),
        ("train: [images/train]", "images/train/a/1.PNG", "labels/train/a/1.txt"),
        ("train: train/images", "train/images/1.jpg", "train/labels/1.txt"),
        ("train: ../train/images", "train/images/1.jpg", "train/labels/1.txt"),
        ("path: ../datasets/bikes\ntrain: images", "images/1.jpg", "labels/1.txt"),
        ("path: ./bikes\ntrain: images", "bikes/images/1.jpg", "bikes/labels/1.txt"),
        ("train: images", "images/images/1.jpg", "images/labels/1.txt"),
        ("train: photos", "photos/1.jpg", "photos/1.txt"),
    ],
)
def test_layouts(tmp_path: Path, config: str, image: str, label: str) -> None:
    write(tmp_path, {"data.yaml": f"{NAMES}{config}", image: "", label: "0 0 0 1 1"})
    (found,) = read_yolo(tmp_path, FindingLog())
    assert (found.path, found.where, len(found.boxes)) == (image, label, 1)


def test_a_path_outside_the_folder(tmp_path: Path) -> None:
    write(tmp_path, {"raw/data.yaml": NAMES + "path: ../store\nval: images", "store/images/1.jpg": ""})
    store = tmp_path.resolve() / "store"
    (found,) = read_yolo(tmp_path / "raw", FindingLog())
    assert (found.path, found.where) == (f"{store}/images/1.jpg", f"{store}/labels/1.txt")


def test_lists_of_images_keep_their_order(tmp_path: Path) -> None:
    files = {"images/2.jpg": "", "images/1.jpg": "", "labels/1.txt": "0 0 0 1 1"}
    lines = f"./images/2.jpg\n\nimages/1.jpg\n{tmp_path}/images/3.jpg\n"
    write(tmp_path, {"data.yaml": NAMES + "train: train.txt", "train.txt": lines, **files})
    images = list(read_yolo(tmp_path, FindingLog()))
    assert [image.path for image in images] == ["images/2.jpg", "images/1.jpg", "images/3.jpg"]
    assert [len(image.boxes) for image in images] == [0, 1, 0]


def test_splits_and_findings(tmp_path: Path) -> None:
    config = NAMES + "valid: valid/images\ntrain: train/images\ntest: ../test/images\nval:\n"
    files = {"train/images/b.jpg": "", "train/images/a.jpg": "", "valid/images/a.jpg": ""}
    write(tmp_path, {"data.yaml": config, **files, "train/labels/a.txt": "", "valid/labels/a.txt": ""})
    log = FindingLog()
    assert [(image.path, image.split) for image in read_yolo(tmp_path, log)] == [
        ("train/images/a.jpg", "train"),
        ("train/images/b.jpg", "train"),
        ("valid/images/a.jpg", "val"),
    ]
    assert log.counts() == {"note": {"missing_label_file": 1, "missing_test_images": 1}}
    assert [(finding.kind, finding.details) for finding in log.listed] == [
        (FindingKind.MISSING_TEST_IMAGES, "../test/images")
    ]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ("2 0 0 1 1", ["class: found 2", "data.yaml"]),
        ("-1 0 0 1 1", ["class: found -1"]),
        ("0.5 0 0 1 1", ['found "0.5"', "integer"]),
        ("wheel 0 0 1 1", ['found "wheel"', "a number"]),
        ("0 0 0 1 1,5", ['found "1,5"', "a number"]),
        ("0 0 0 1", ["4 fields", '"0 0 0 1"', "5: class cx cy w h"]),
        ("0 0 0 1 1 0.9", ["6 fields"]),
        ("0 0 0 1 1 0.9 1 1", ["8 fields"]),
    ],
)
def test_errors_give_file_line_and_value(tmp_path: Path, labels: str, words: list[str]) -> None:
    with pytest.raises(UserError) as error:
        dataset(tmp_path, f"0 0 0 1 1\n{labels}\n")
    for word in ["labels/train/1.txt:2", *words]:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ("names: [a\ntrain: b", r"data\.yaml:2: invalid YAML"),
        ("just text", r'data\.yaml: found "just text"'),
        (NAMES, r"data\.yaml: found \['names'\], expected the keys names, train and val"),
        ("train: .", r"data\.yaml: names: found null"),
        ("names: [a, []]\ntrain: .", r"data\.yaml: names: 1: found \[\]"),
        ("names: {a: b}\ntrain: .", r'data\.yaml: names: found "a"'),
        (NAMES + "train: images", r'data\.yaml: train: found "images", expected a folder'),
        (NAMES + "train: " + "x" * 5000, r'train: found "xxx.*…, expected a folder'),
        (NAMES + "train: {a: b}", r"data\.yaml: train: found \{'a': 'b'\}"),
        (NAMES + "train: data.yaml", r'data\.yaml: found "data\.yaml", expected a folder or a \.txt list'),
        (NAMES + "train: list.txt", r'list\.txt:2: found "1 2", expected an image file'),
        (NAMES + "train: photos\nval: ./photos", r'val: found "photos/1\.jpg", .* train'),
        (NAMES + "kpt_shape: 3\ntrain: photos", r'kpt_shape: found "3"'),
    ],
)
def test_errors_in_data_yaml(tmp_path: Path, config: str, message: str) -> None:
    write(tmp_path, {"data.yaml": config, "photos/1.jpg": "", "list.txt": "a.jpg\n1 2\n"})
    with pytest.raises(UserError, match=message):
        list(read_yolo(tmp_path, FindingLog()))


def test_data_yaml_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.yaml is missing"):
        list(read_yolo(tmp_path, FindingLog()))


SHARES = st.floats(0, 1)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(SHARES, SHARES, SHARES, SHARES), max_size=5))
def test_boxes_survive_the_round_trip(boxes_xyxy: list[tuple[float, float, float, float]]) -> None:
    rows = [f"0 {(x1 + x2) / 2} {(y1 + y2) / 2} {x2 - x1} {y2 - y1}" for x1, y1, x2, y2 in boxes_xyxy]
    with tempfile.TemporaryDirectory() as folder:
        (image,) = dataset(Path(folder), "\n".join(rows))
    assert len(image.boxes) == len(boxes_xyxy)
    for box, xyxy in zip(image.boxes, boxes_xyxy, strict=True):
        assert box.xyxy == pytest.approx(xyxy, abs=1e-12)
