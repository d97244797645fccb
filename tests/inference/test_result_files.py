"""Files of detections: their contents, that others read them, and that they stay valid when writing is interrupted."""

from __future__ import annotations

import csv
import json
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO

from detector.core.errors import UserError
from detector.inference.dataset_file import JsonLinesFile
from detector.inference.labeling_files import CvatFile, LabelStudioFile
from detector.inference.result_files import CocoFile, CocoResultsFile, CsvFile, YoloFolder
from detector.inference.video import Frame
from detector.preprocessing.findings import FindingLog
from detector.preprocessing.formats import READERS
from detector.runners.model_metadata import ModelMetadata
from tests.support.written_results import METADATA, PREDICTIONS, decoded_image, write_results

ResultType = (
    type[CocoFile]
    | type[CocoResultsFile]
    | type[CsvFile]
    | type[CvatFile]
    | type[JsonLinesFile]
    | type[LabelStudioFile]
    | type[YoloFolder]
)
DOCUMENTS: list[ResultType] = [CocoFile, CocoResultsFile, CvatFile, LabelStudioFile]
LINES: list[ResultType] = [CsvFile, JsonLinesFile]
FILES: list[ResultType] = [*DOCUMENTS, *LINES]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Create the output folder; the images lie next to it."""
    (tmp_path / "out").mkdir()
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (200, 100)).save(tmp_path / name)
    return tmp_path / "out"


def write_files(folder: Path, metadata: ModelMetadata = METADATA) -> None:
    for kind in (CocoFile, JsonLinesFile, CsvFile):
        write_results(kind(folder, metadata, folder.parent), folder.parent, metadata)


def test_coco(folder: Path) -> None:
    write_files(folder)
    written = json.loads((folder / "predictions.json").read_text())
    assert [(image["id"], image["file_name"], image["width"]) for image in written["images"]] == [
        (1, "a.jpg", 200), (2, "b.jpg", 200),
    ]  # fmt: skip
    assert written["categories"] == [{"id": 1, "name": "bolt"}, {"id": 2, "name": "rot, ü"}]
    assert written["states"] == [{"id": 1, "name": "intact"}, {"id": 2, "name": "damaged"}]
    first, second = written["annotations"]
    assert first == {"id": 1, **PREDICTIONS[0], "area": 1227.62, "iscrowd": 0}
    assert second["id"] == 2
    assert written["info"]["model"] == "m"
    assert sorted(path.name for path in folder.iterdir()) == [
        "dataset.jsonl", "images", "predictions.csv", "predictions.json",
    ]  # fmt: skip


@pytest.mark.parametrize("metadata", [METADATA, METADATA.model_copy(update={"states": []})])
def test_coco_results_are_read_by_the_evaluation_of_coco(folder: Path, metadata: ModelMetadata) -> None:
    for kind in (CocoFile, CocoResultsFile):
        write_results(kind(folder, metadata, folder.parent), folder.parent, metadata)
    results = json.loads((folder / "results.json").read_text())
    assert results[0]["file_name"] == "a.jpg"
    assert ("state" in results[0]) == bool(metadata.states)
    loaded = COCO(str(folder / "predictions.json")).loadRes(str(folder / "results.json"))
    rows = [loaded.anns[number] for number in sorted(loaded.anns)]
    assert [(row["image_id"], row["category_id"], row["bbox"], row["score"]) for row in rows] == [
        (one["image_id"], one["category_id"], one["bbox"], one["score"]) for one in PREDICTIONS
    ]


def test_yolo(folder: Path) -> None:
    (folder.parent / "deep").mkdir()
    file = YoloFolder(folder, METADATA, folder.parent)
    for name in ("a.jpg", "deep/a.jpg", "a.png", "b.jpg"):
        file.add(decoded_image(folder.parent / name), [] if name == "b.jpg" else PREDICTIONS)
    file.add(decoded_image(folder.parent / "clip.mp4", Frame(12, 0.44, 25.0)), PREDICTIONS)
    file.close()
    assert (folder / "classes.txt").read_text() == "bolt\nrot, ü\n"
    labels = folder / "labels"
    assert (labels / "a.txt").read_text() == (
        "1 0.126250 0.401250 0.152500 0.402500 0.90000\n0 0.500000 0.500000 1.000000 1.000000 0.50000\n"
    )
    assert (labels / "b.txt").read_text() == ""
    names = sorted(path.relative_to(labels).as_posix() for path in labels.rglob("*.txt"))
    assert names == ["a.png.txt", "a.txt", "b.txt", "clip.mp4/000012.txt", "deep/a.txt"]


@pytest.mark.parametrize("metadata", [METADATA, METADATA.model_copy(update={"states": []})])
@pytest.mark.parametrize("name", ["coco", "jsonl"])
def test_the_dataset_readers_accept_them(folder: Path, metadata: ModelMetadata, name: str) -> None:
    write_files(folder, metadata)
    if name == "coco":  # its paths are relative to the images
        shutil.copy(folder / "predictions.json", folder.parent)
        shutil.rmtree(folder)
        folder = folder.parent
    first, second = READERS[name](folder, FindingLog())
    assert Path(first.path).name == "a.jpg"
    assert all((folder / image.path).is_file() and ".." not in image.path for image in (first, second))
    assert second.boxes == ()
    scale = np.array([200, 100] * 2) if first.normalized else 1
    boxes = [(box.label, box.state, (np.array(box.xyxy) * scale).tolist()) for box in first.boxes]
    assert boxes == [
        ("rot, ü", "damaged" if metadata.states else None, pytest.approx([10, 20, 40.5, 60.25], abs=0.01)),
        ("bolt", "intact" if metadata.states else None, pytest.approx([0, 0, 200, 100])),
    ]


def test_csv(folder: Path) -> None:
    write_files(folder)
    with (folder / "predictions.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert first == {
        "image": "a.jpg", "frame": "", "class": "rot, ü", "score": "0.9", "left": "10.0",
        "top": "20.0", "right": "40.5", "bottom": "60.25", "state": "damaged", "state_score": "0.7",
    }  # fmt: skip
    assert second["class"] == "bolt"


def test_video_frames_are_saved_for_the_dataset(folder: Path) -> None:
    frame = Frame(12, 0.44, 25.0)
    for kind in (CocoFile, JsonLinesFile, CsvFile):
        file = kind(folder, METADATA, folder.parent)
        file.add(decoded_image(folder.parent / "clip.mp4", frame), PREDICTIONS)
        file.close()
    (image,) = READERS["jsonl"](folder, FindingLog())
    assert image.path == "frames/clip.mp4/000012.jpg"
    assert image.sequence == "clip", "the split keeps the frames of a video together"
    with Image.open(folder / image.path) as saved:
        assert saved.size == (200, 100)
    (coco,) = json.loads((folder / "predictions.json").read_text())["images"]
    assert (coco["file_name"], coco["frame"], coco["seconds"]) == ("clip.mp4", 12, 0.44)
    assert ",12," in (folder / "predictions.csv").read_text()


def test_files_without_images_are_valid(folder: Path) -> None:
    for kind in FILES:
        kind(folder, METADATA, folder.parent).close()
    assert json.loads((folder / "predictions.json").read_text())["images"] == []
    assert (folder / "dataset.jsonl").read_text() == ""
    assert (folder / "predictions.csv").read_text().count("\n") == 1
    assert (
        json.loads((folder / "results.json").read_text())
        == json.loads((folder / "label_studio.json").read_text())
        == []
    )
    assert list(ElementTree.parse(folder / "cvat.xml").getroot().iter("image")) == []


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Simulate a full disk: no file can grow beyond this many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("kind", FILES)
def test_complete_lines_remain_when_the_disk_is_full(folder: Path, kind: ResultType) -> None:
    (folder / "a.jpg").write_bytes(b"")  # an image in the output folder is not copied
    file = kind(folder, METADATA, folder.parent)
    before = {path.name for path in folder.iterdir() if ".part" not in path.name}

    def fill() -> None:
        for _ in range(1000):
            file.add(decoded_image(folder / "a.jpg"), PREDICTIONS)

    with largest_file(5000), pytest.raises(UserError, match=r"out/\w+\.\w+: cannot be written \(File too large\)"):
        fill()
    file.close()
    left = {path.name: path.read_text() for path in folder.iterdir()}
    if kind in DOCUMENTS:
        assert left.keys() == before, "half a document is useless"
    elif kind is JsonLinesFile:
        lines = [json.loads(line) for line in left["dataset.jsonl"].splitlines()]
        assert len(lines) > 5
        assert len(left["dataset.jsonl"]) > 4000
    else:
        rows = list(csv.reader(left["predictions.csv"].splitlines()))
        assert {len(row) for row in rows} == {10}
        assert len(rows) % 2 == 1, "a header and two rows per image"


@pytest.mark.parametrize("kind", [*FILES, YoloFolder])
def test_a_disk_that_is_full_from_the_start(folder: Path, kind: ResultType) -> None:
    (folder / "a.jpg").write_bytes(b"")
    with largest_file(10), pytest.raises(UserError, match=r"out/\w+\.\w+: cannot be written"):
        kind(folder, METADATA, folder.parent).add(decoded_image(folder / "a.jpg"), PREDICTIONS)
    assert [path.read_text() for path in folder.iterdir()] in ([""], ["", ""])


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (CocoFile, "predictions.json"), (CocoResultsFile, "results.json"), (CsvFile, "predictions.csv"),
        (CvatFile, "cvat.xml"), (LabelStudioFile, "label_studio.json"),
        (YoloFolder, "classes.txt"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("link", [Path.hardlink_to, Path.symlink_to])
def test_older_files_are_replaced_and_never_written_through(
    folder: Path, kind: ResultType, name: str, link: Callable[[Path, Path], None]
) -> None:
    """They may be links into DVC's cache."""
    old = folder.parent / "old"
    old.write_text("old")
    link(folder / name, old)
    write_results(kind(folder, METADATA, folder.parent), folder.parent)
    assert old.read_text() == "old"
    assert not (folder / name).is_symlink()
    assert (folder / name).read_text() != "old"


@pytest.mark.parametrize("kind", [*FILES, YoloFolder])
def test_a_folder_that_cannot_be_written(tmp_path: Path, kind: ResultType) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot be written \((Not a directory|File exists)\).*--out"):
        kind(tmp_path / "file", METADATA, tmp_path)
