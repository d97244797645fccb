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
    log = FindingLog()
    (found,) = read_yolo(tmp_path / "raw", log)
    assert (found.path, found.where) == (f"{store}/images/1.jpg", f"{store}/labels/1.txt")
    assert log.counts()["note"] == {"missing_label_file": 1, "outside_image": 1}


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
def test_a_line_that_cannot_be_read_is_dropped_and_counted(tmp_path: Path, labels: str, words: list[str]) -> None:
    dataset(tmp_path, f"0 0 0 1 1\n\n{labels}\n1 0 0 1 1\n")
    log = FindingLog()
    (image,) = read_yolo(tmp_path, log)
    assert [box.label for box in image.boxes] == ["wheel", "saddle"]
    assert [(finding.kind, finding.where, finding.box) for finding in log.listed] == [
        (FindingKind.INVALID_BOX, "labels/train/1.txt:3", 2)
    ]
    for word in words:
        assert word in log.listed[0].details


def test_an_image_in_several_lists_has_them_all_as_its_split(tmp_path: Path) -> None:
    files = {"photos/1.jpg": "", "photos/2.jpg": "", "list.txt": "photos/2.jpg\nphotos/2.jpg\n"}
    write(tmp_path, {"data.yaml": NAMES + "train: photos\nval: ./photos\ntest: list.txt", **files})
    log = FindingLog()
    assert [(image.path, image.split) for image in read_yolo(tmp_path, log)] == [
        ("photos/1.jpg", "train+val"),
        ("photos/2.jpg", "train+val+test"),
    ]
    assert log.counts()["dropped_image"] == {"duplicate_entry": 1}, "twice in one list"


def test_a_label_file_of_two_images_is_reported(tmp_path: Path) -> None:
    write(tmp_path, {"data.yaml": NAMES + "train: .", "1.jpg": "", "1.png": "", "1.txt": "0 0.5 0.5 1 1"})
    log = FindingLog()
    assert [len(image.boxes) for image in read_yolo(tmp_path, log)] == [1, 1]
    (finding,) = log.listed
    assert finding[:3] == (FindingKind.SHARED_LABEL_FILE, "1.txt", "1.png")
    assert finding.details == "1.jpg"


@pytest.mark.parametrize("line", [".", "/", "..", "list", "list.", "data"])
def test_a_line_of_a_list_that_names_no_image_has_no_labels(tmp_path: Path, line: str) -> None:
    write(tmp_path, {"data.yaml": NAMES + "train: list.txt", "list.txt": line, "data.txt": ""})
    log = FindingLog()
    (image,) = read_yolo(tmp_path, log)
    assert (image.path, image.boxes, log.boxes) == (line, (), 0)


@pytest.mark.parametrize("entry", ["/", "..", "../.."])
def test_a_folder_around_the_dataset_is_not_searched(tmp_path: Path, entry: str) -> None:
    write(tmp_path, {"a/b/data.yaml": f"{NAMES}train: {entry}", "1.jpg": ""})
    with pytest.raises(UserError, match="does not contain"):
        list(read_yolo(tmp_path / "a/b", FindingLog()))


def test_linked_folders_are_searched_and_hidden_ones_are_not(tmp_path: Path) -> None:
    write(
        tmp_path, {"set/data.yaml": NAMES + "train: images", "store/3.JPEG": "", "set/labels/night/3.txt": "0 0 0 1 1"}
    )
    write(tmp_path, dict.fromkeys(["set/images/1.jpg", "set/images/a/2.webp"], ""))
    hidden = [".ipynb_checkpoints/1-checkpoint.jpg", "._1.jpg", "__MACOSX/1.jpg", "Thumbs.db"]
    write(tmp_path / "set/images", dict.fromkeys(hidden, ""))
    (tmp_path / "set/images/night").symlink_to(tmp_path / "store")
    (tmp_path / "set/images/a/up").symlink_to(tmp_path / "set")
    (tmp_path / "store/self").symlink_to(tmp_path / "store")
    images = list(read_yolo(tmp_path / "set", FindingLog()))
    assert [(image.path, len(image.boxes)) for image in images] == [
        ("images/1.jpg", 0),
        ("images/a/2.webp", 0),
        ("images/night/3.JPEG", 1),
    ]


@pytest.mark.parametrize("label", ["labels/\u00e9.txt", "labels/e\u0301.txt", "labels/e\u0301.TXT"])
def test_labels_are_found_in_composed_and_decomposed_unicode(tmp_path: Path, label: str) -> None:
    write(tmp_path, {"data.yaml": NAMES + "train: images", "images/e\u0301.jpg": "", label: "0 0 0 1 1"})
    (image,) = read_yolo(tmp_path, FindingLog())
    assert (len(image.boxes), image.where) == (1, label)


def test_links_into_a_cache_and_paths_through_links_keep_their_labels(tmp_path: Path) -> None:
    """As DVC links files with cache.type symlink: the name in its cache says nothing."""
    lines = "../set/images/1.jpg\nimages/night/../1.jpg\nimages\\\\2.jpg\n".replace("\\\\", "\\")
    files = {"data.yaml": NAMES + "train: list.txt", "list.txt": lines, "labels/1.txt": "0 0 0 1 1"}
    write(tmp_path, {f"set/{name}": text for name, text in files.items()})
    write(
        tmp_path,
        {"cache/00ff": "", "set/images/2.jpg": "", "set/labels/2.txt": "0 0 0 1 1", "set/images/night/3.jpg": ""},
    )
    (tmp_path / "set/images/1.jpg").symlink_to(tmp_path / "cache/00ff")
    log = FindingLog()
    images = list(read_yolo(tmp_path / "set", log))
    assert [(image.path, len(image.boxes)) for image in images] == [("images/1.jpg", 1), ("images/2.jpg", 1)]


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
        ("names: {0: a, '00': b}\ntrain: .", r"names: 00: found \"b\", expected one name per id; 0 is 'a'"),
        ("names: [a, b, a]\ntrain: .", r'names: 2: found "a", expected each class once'),
        ("names: {0: a, 0: b}\ntrain: .", r"data\.yaml:1: invalid YAML: the key '0' stands here twice"),
        ("names: [a]\nnames: [b]\ntrain: .", r"data\.yaml:2: invalid YAML"),
        ("a: &a [*a]\ntrain: .", r"data\.yaml:1: invalid YAML"),
        (NAMES + "path: {a: b}\ntrain: .", r"data\.yaml: path: found \{'a': 'b'\}"),
        (NAMES + "kpt_shape: [[2, 3]]\ntrain: photos", r"kpt_shape: found"),
        (NAMES + "kpt_shape: 3\ntrain: photos", r'kpt_shape: found "3"'),
    ],
)
def test_errors_in_data_yaml(tmp_path: Path, config: str, message: str) -> None:
    write(tmp_path, {"data.yaml": config, "photos/1.jpg": ""})
    with pytest.raises(UserError, match=message):
        list(read_yolo(tmp_path, FindingLog()))


def test_values_that_expand_are_shown_in_short(tmp_path: Path) -> None:
    levels = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 6)]
    for key in ("path", "kpt_shape", "train", "names"):
        lines = [NAMES.strip() if key != "names" else "", "train: photos" if key != "train" else ""]
        text = "\n".join(["l0: &l0 [x, x]", *levels, *lines, f"{key}: *l5", ""])
        write(tmp_path, {"data.yaml": text, "photos/1.jpg": ""})
        with pytest.raises(UserError, match=rf"data\.yaml: {key}") as error:
            list(read_yolo(tmp_path, FindingLog()))
        assert len(str(error.value)) < 300


def test_lines_that_are_no_paths(tmp_path: Path) -> None:
    lines = ["images/1.jpg", ".", "/", "..", "a\x1bb.jpg", "x" * 5000, "images", "\0"]
    write(tmp_path, {"data.yaml": NAMES + "train: list.txt", "images/1.jpg": "", "list.txt": "\n".join(lines)})
    found = list(read_yolo(tmp_path, FindingLog()))
    assert (found[0].path, len(found)) == ("images/1.jpg", len(lines))


def test_data_yaml_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"data\.yaml is missing"):
        list(read_yolo(tmp_path, FindingLog()))


SHARES = st.floats(0, 1)


@settings(max_examples=50)
@given(st.lists(st.tuples(SHARES, SHARES, SHARES, SHARES), max_size=5))
def test_boxes_survive_the_round_trip(boxes_xyxy: list[tuple[float, float, float, float]]) -> None:
    rows = [f"0 {(x1 + x2) / 2} {(y1 + y2) / 2} {x2 - x1} {y2 - y1}" for x1, y1, x2, y2 in boxes_xyxy]
    with tempfile.TemporaryDirectory() as folder:
        (image,) = dataset(Path(folder), "\n".join(rows))
    assert len(image.boxes) == len(boxes_xyxy)
    for box, xyxy in zip(image.boxes, boxes_xyxy, strict=True):
        assert box.xyxy == pytest.approx(xyxy, abs=1e-12)
