"""Pascal VOC: boxes, split lists, image names, errors, and the blood-cell dataset."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from detector.core.errors import UserError
from detector.preprocessing.findings import FindingKind, FindingLog
from detector.preprocessing.formats.voc import read_voc
from detector.preprocessing.raw_annotations import RawBox, RawImage

BCCD = Path(__file__).parents[3].parent / "shared/datasets/bccd"
BNDBOX = "<bndbox><xmax>30</xmax><xmin>10</xmin><ymin>20.5</ymin><ymax>40</ymax></bndbox>"


def write(folder: Path, *objects: str, stem: str = "1", filename: str = "<filename>1.jpg</filename>") -> None:
    elements = "".join(f"<object>{element}</object>" for element in objects)
    path = folder / f"Annotations/{stem}.xml"
    path.parent.mkdir(parents=True, exist_ok=True)
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


@pytest.mark.parametrize("given", [".", "/", "..", "a/", "./", "\\"])
def test_a_filename_without_a_name(tmp_path: Path, given: str) -> None:
    write(tmp_path, filename=f"<filename>{given}</filename>")
    touch(tmp_path, "1.jpg")
    assert [image.path for image in read_all(tmp_path)] == ["JPEGImages/1.jpg"]


def test_a_class_name_of_a_book_is_no_name(tmp_path: Path) -> None:
    write(tmp_path, f"<name>{'x' * 1_000}</name>{BNDBOX}", f"<name>{'x' * 1_001}</name>{BNDBOX}")
    log = FindingLog()
    (image,) = read_voc(tmp_path, log)
    assert [box.label for box in image.boxes] == ["x" * 1_000]
    assert log.counts() == {"dropped_box": {"invalid_box": 1}}
    assert len(log.listed[0].details) < 300


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / "JPEGImages" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "JPEGImages" / name).touch()


@pytest.mark.parametrize(
    ("filename", "files", "expected", "is_stale"),
    [
        ("<filename>7.png</filename>", ["7.png", "1.jpg"], "1.jpg", True),
        ("<filename>7.png</filename>", ["1.JPG"], "1.JPG", True),
        ("<filename>x/7.png</filename><filename>1.png</filename>", ["1.jpg", "1.png"], "1.png", True),
        ("<filename>C:\\photos\\1.bmp</filename>", ["1.avif"], "1.avif", False),
        ("<filename>7.png</filename>", ["7.png"], "7.png", False),
        ("<filename>1</filename>", ["1.jpeg"], "1.jpeg", False),
        ("<filename>7.png</filename>", [], "7.png", False),
        ("<filename/>", ["1.png"], "1.png", False),
        ("", [], "1.jpg", False),
    ],
)
def test_the_image_of_an_annotation(
    tmp_path: Path, filename: str, files: list[str], expected: str, is_stale: bool
) -> None:
    write(tmp_path, filename=filename)
    touch(tmp_path, *files)
    log = FindingLog()
    (image,) = read_voc(tmp_path, log)
    assert image.path == f"JPEGImages/{expected}"
    assert log.counts() == ({"note": {"stale_filename": 1}} if is_stale else {})


def test_renumbered_annotations_keep_their_images(tmp_path: Path) -> None:
    """<filename> is of another image, or of one that every file names; the stems are right."""
    for stem, other in ("12", "23", "31"):
        write(tmp_path, f"<name>n{stem}</name>{BNDBOX}", stem=stem, filename=f"<filename>{other}.jpg</filename>")
        touch(tmp_path, f"{stem}.jpg")
    log = FindingLog()
    assert [(image.path, image.boxes[0].label) for image in read_voc(tmp_path, log)] == [
        (f"JPEGImages/{stem}.jpg", f"n{stem}") for stem in "123"
    ]
    assert [finding.details for finding in log.listed] == ["2.jpg", "3.jpg", "1.jpg"]


def test_a_file_without_its_image_does_not_take_that_of_another(tmp_path: Path) -> None:
    write(tmp_path, stem="0", filename="<filename>1.jpg</filename>")
    write(tmp_path, stem="1")
    touch(tmp_path, "1.jpg")
    assert [image.path for image in read_all(tmp_path)] == ["JPEGImages/1.jpg"] * 2, "the first is a duplicate"
    assert [image.where for image in read_all(tmp_path)] == ["Annotations/0.xml", "Annotations/1.xml"]


@pytest.mark.parametrize("filename", ["", "<filename>7.jpg</filename>"])
def test_an_image_of_another_folder_is_not_taken(tmp_path: Path, filename: str) -> None:
    write(tmp_path, stem="a/1", filename=filename)
    touch(tmp_path, "a/2.jpg", "b/1.jpg", "b/7.jpg")
    (image,) = read_all(tmp_path)
    assert image.path.startswith("JPEGImages/a/"), "it is missing"


def test_an_image_in_an_unexpected_folder_is_counted(tmp_path: Path) -> None:
    write(tmp_path, stem="a/1", filename="")
    write(tmp_path, stem="2", filename="")
    touch(tmp_path, "b/1.jpg", "2.jpg")
    log = FindingLog()
    write(tmp_path, stem="c/3", filename="")
    touch(tmp_path, "3.jpg")
    paths = {f"JPEGImages/{name}.jpg" for name in ("b/1", "2", "3")}
    assert {image.path for image in read_voc(tmp_path, log)} == paths
    (finding,) = log.listed
    assert finding[:3] == (FindingKind.IMAGE_FOUND_ELSEWHERE, "Annotations/a/1.xml", "JPEGImages/b/1.jpg")


def test_files_in_subfolders_and_in_capitals(tmp_path: Path) -> None:
    for stem in ("a/1", "b/1", "c/2", "3"):
        write(tmp_path, stem=stem, filename="")
    (tmp_path / "Annotations/3.xml").rename(tmp_path / "Annotations/3.XML")
    (tmp_path / "Annotations/._4.xml").write_bytes(b"\0\5\x16")
    touch(tmp_path, "a/1.jpg", "b/1.jpg", "2.jpg", "3.jpg")
    write_list(tmp_path, "train", "a/1\nc/2\n3\n")
    write_list(tmp_path, "val", "3\n")
    log = FindingLog()
    assert sorted((image.path, image.split) for image in read_voc(tmp_path, log)) == [
        ("JPEGImages/2.jpg", "train"),
        ("JPEGImages/3.jpg", "train+val"),
        ("JPEGImages/a/1.jpg", "train"),
        ("JPEGImages/b/1.jpg", None),
    ]
    write_list(tmp_path, "val", "1\n")
    with pytest.raises(UserError, match=r"val\.txt:1: found \"1\".*2 times"):
        read_all(tmp_path)


@pytest.mark.parametrize(
    "element",
    [
        f"<name>wheel</name><name>saddle</name>{BNDBOX}",
        f"<name>wheel</name>{BNDBOX}{BNDBOX}",
        f"<name>wheel</name>{BNDBOX.replace('<xmin>', '<xmin>9</xmin><xmin>')}",
        f"<name>wheel</name>{BNDBOX}<state>a</state><state>b</state>",
    ],
)
def test_a_doubled_element_drops_the_object(tmp_path: Path, element: str) -> None:
    write(tmp_path, f"<name>hub</name>{BNDBOX}", element)
    log = FindingLog()
    (image,) = read_voc(tmp_path, log)
    assert [box.label for box in image.boxes] == ["hub"]
    (finding,) = log.listed
    assert (finding.kind, finding.where, finding.box) == (FindingKind.INVALID_BOX, "Annotations/1.xml", 2)
    assert "2 times" in finding.details


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
        ({"train": "a\nb\na", "val": "b\nc"}, ["train", "train+val", "val"]),
        ({"test": "a", "trainval": "a\nc"}, ["train+test", None, "train"]),
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
def test_an_object_that_cannot_be_read_is_dropped_and_counted(tmp_path: Path, element: str, words: list[str]) -> None:
    write(tmp_path, f"<name>wheel</name>{BNDBOX}", element)
    log = FindingLog()
    (image,) = read_voc(tmp_path, log)
    assert len(image.boxes) == 1
    (finding,) = log.listed
    assert (finding.kind, finding.where, finding.box) == (FindingKind.INVALID_BOX, "Annotations/1.xml", 2)
    for word in words:
        assert word in finding.details


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
