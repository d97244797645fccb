"""Pascal VOC: boxes, split lists, image names, errors, and the blood-cell dataset."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from detector.core.errors import UserError
from detector.preprocessing.findings import FindingLog
from detector.preprocessing.formats.voc import read_voc
from detector.preprocessing.raw_annotations import RawBox, RawImage

BCCD = Path(__file__).parents[3].parent / "shared/datasets/bccd"
BNDBOX = "<bndbox><xmax>30</xmax><xmin>10</xmin><ymin>20.5</ymin><ymax>40</ymax></bndbox>"


def write(folder: Path, *objects: str, stem: str = "1", filename: str = "<filename>1.jpg</filename>") -> None:
    elements = "".join(f"<object>{element}</object>" for element in objects)
    path = folder / f"Annotations/{stem}.xml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"<annotation>{filename}{elements}</annotation>", encoding="utf-8")


def write_list(folder: Path, name: str, lines: str) -> None:
    path = folder / f"ImageSets/Main/{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(lines, encoding="utf-8")


def read_all(folder: Path) -> list[RawImage]:
    return list(read_voc(folder, FindingLog()))


def test_an_image_without_objects(tmp_path: Path) -> None:
    write(tmp_path)
    assert read_all(tmp_path) == [RawImage("JPEGImages/1.jpg", "Annotations/1.xml", ())]


def test_objects(tmp_path: Path) -> None:
    plain = f"<name>wheel</name>{BNDBOX}<part><name>hub</name>{BNDBOX}</part>"
    write(tmp_path, plain, f"{plain}<difficult>1</difficult><state> torn </state><trust>0.5</trust>")
    log = FindingLog()
    (image,) = read_voc(tmp_path, log)
    xyxy = (10.0, 20.5, 30.0, 40.0)
    assert image.boxes == (RawBox("wheel", xyxy), RawBox("wheel", xyxy, "torn", 0.5, iscrowd=True))
    assert log.counts() == {"note": {"difficult_box": 1}}


@pytest.mark.parametrize(
    ("filename", "files", "expected"),
    [
        ("<filename>7.png</filename>", ["7.png", "1.jpg"], "7.png"),
        ("<filename>7.png</filename>", ["1.JPG"], "1.JPG"),
        ("<filename>1</filename>", ["1.jpeg"], "1.jpeg"),
        ("<filename>7.png</filename>", [], "7.png"),
        ("<filename/>", ["1.png"], "1.png"),
        ("", [], "1.jpg"),
    ],
)
def test_the_image_of_an_annotation(tmp_path: Path, filename: str, files: list[str], expected: str) -> None:
    write(tmp_path, filename=filename)
    (tmp_path / "JPEGImages").mkdir()
    for name in files:
        (tmp_path / "JPEGImages" / name).touch()
    assert read_all(tmp_path)[0].path == f"JPEGImages/{expected}"


@pytest.mark.parametrize(
    ("lists", "splits"),
    [
        ({}, [None, None, None]),
        (
            {"train": "a\n\n", "val": "b\r\n", "trainval": "a\nb\nc\n", "a_val": "c  1"},
            ["train", "val", None],
        ),
        ({"trainval": "a\nb", "test": "c"}, ["train", "train", "test"]),
        ({"val": "b", "trainval": "a\nb"}, ["train", "val", None]),
    ],
)
def test_split_lists(tmp_path: Path, lists: dict[str, str], splits: list[str | None]) -> None:
    for stem in "cab":
        write(tmp_path, stem=stem)
    for name, lines in lists.items():
        write_list(tmp_path, name, lines)
    assert [image.split for image in read_all(tmp_path)] == splits


@pytest.mark.parametrize(
    ("lists", "words"),
    [
        ({"train": "1", "val": "\n1"}, ["val.txt:2", '"1"', "ImageSets/Main/train.txt:1"]),
        ({"test": "1", "trainval": "1"}, ["trainval.txt:1", '"1"', "test.txt:1"]),
        ({"train": "1\n2"}, ["train.txt:2", '"2"', "Annotations/2.xml is missing"]),
    ],
)
def test_errors_in_lists(tmp_path: Path, lists: dict[str, str], words: list[str]) -> None:
    write(tmp_path)
    for name, lines in lists.items():
        write_list(tmp_path, name, lines)
    with pytest.raises(UserError) as error:
        read_all(tmp_path)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("element", "words"),
    [
        (BNDBOX, ["object 2", "<name> is missing or empty"]),
        ("<name>wheel</name>", ["object 2 (wheel)", "<bndbox><xmin> is missing or empty"]),
        ("<name>wheel</name>" + BNDBOX.replace("10", "1O"), ["(wheel): xmin", 'found "1O"', "a number"]),
        (f"<name>wheel</name>{BNDBOX}<difficult>yes</difficult>", ["difficult", '"yes"', "0 or 1"]),
        (f"<name>wheel</name>{BNDBOX}<trust>high</trust>", ["trust", '"high"', "a number"]),
    ],
)
def test_errors_give_file_element_and_value(tmp_path: Path, element: str, words: list[str]) -> None:
    write(tmp_path, f"<name>wheel</name>{BNDBOX}", element)
    with pytest.raises(UserError) as error:
        read_all(tmp_path)
    for word in ["Annotations/1.xml", *words]:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"", r"1\.xml:1: invalid XML"),
        (b"<annotation>\n<object>", r"1\.xml:2: invalid XML"),
        (b"<annotation>\n\xfc</annotation>", r"1\.xml:2: invalid XML"),
        (
            b"<?xml version='1.0' encoding='klingon'?><annotation/>",
            r"1\.xml:1: .*klingon|1\.xml:1: .*encoding",
        ),
        (b"<html/>", r'1\.xml: found "<html>", expected <annotation>'),
    ],
)
def test_invalid_xml(tmp_path: Path, source: bytes, message: str) -> None:
    write(tmp_path)
    (tmp_path / "Annotations/1.xml").write_bytes(source)
    with pytest.raises(UserError, match=message):
        read_all(tmp_path)


def test_byte_order_mark(tmp_path: Path) -> None:
    write(tmp_path)
    path = tmp_path / "Annotations/1.xml"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(read_all(tmp_path)) == 1


def test_no_annotations(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"found no Annotations/\*\.xml"):
        read_all(tmp_path)


def test_blood_cell_dataset(tmp_path: Path) -> None:
    if not BCCD.exists():
        pytest.skip("the blood-cell dataset is not next to the repository")
    for name in ("Annotations", "ImageSets"):
        (tmp_path / name).symlink_to(BCCD / "voc" / name)
    (tmp_path / "JPEGImages").symlink_to(BCCD / "data")
    images = read_all(tmp_path)
    assert (len(images), sum(len(image.boxes) for image in images)) == (364, 4888)
    assert Counter(image.split for image in images) == {"train": 205, "val": 87, "test": 72}
    assert all((tmp_path / image.path).is_file() for image in images)
