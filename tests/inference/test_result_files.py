"""Files of detections: their contents, and that they stay valid when writing is interrupted."""

from __future__ import annotations

import csv
import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.core.errors import UserError
from detector.core.pixels import LetterboxedImage
from detector.engine.detections import Prediction
from detector.inference.decoding import DecodedImage
from detector.inference.result_files import CocoFile, CsvFile, JsonLinesFile, make_relative
from detector.inference.video import Frame
from detector.preprocessing.findings import FindingLog
from detector.preprocessing.formats import READERS
from detector.runners.tiled import ModelMetadata

METADATA = ModelMetadata(
    model="m", classes=["bolt", "rot, ü"], states=["intact", "damaged"], size=(64, 64), fill=(0, 0, 0), data="data"
)
PREDICTIONS: list[Prediction] = [
    {"image_id": 1, "category_id": 2, "bbox": [10.0, 20.0, 30.5, 40.25], "score": 0.9, "state": 2, "state_score": 0.7},
    {"image_id": 1, "category_id": 1, "bbox": [0.0, 0.0, 200.0, 100.0], "score": 0.5, "state": 1, "state_score": 1.0},
]
FILES: list[type[CocoFile] | type[JsonLinesFile] | type[CsvFile]] = [CocoFile, JsonLinesFile, CsvFile]


def decoded_image(path: Path, frame: Frame | None = None) -> DecodedImage:
    image = Image.new("RGB", (200, 100))
    letterboxed = LetterboxedImage(np.zeros((64, 64, 3), np.uint8), 0.32)
    return DecodedImage(path, 200, 100, letterboxed, image=image, frame=frame, is_multi_page=False)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Create the output folder; the images lie next to it."""
    (tmp_path / "out").mkdir()
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (200, 100)).save(tmp_path / name)
    return tmp_path / "out"


def write_files(folder: Path, metadata: ModelMetadata = METADATA) -> None:
    without: list[Prediction] = [{**prediction, "state": 0, "state_score": 0.0} for prediction in PREDICTIONS]
    for kind in FILES:
        file = kind(folder, metadata)
        file.add(decoded_image(folder.parent / "a.jpg"), PREDICTIONS if metadata.states else without)
        file.add(decoded_image(folder.parent / "b.jpg"), [])
        file.close()


def test_coco(folder: Path) -> None:
    write_files(folder)
    written = json.loads((folder / "predictions.json").read_text())
    assert [(image["id"], image["file_name"], image["width"]) for image in written["images"]] == [
        (1, "../a.jpg", 200), (2, "../b.jpg", 200),
    ]  # fmt: skip
    assert written["categories"] == [{"id": 1, "name": "bolt"}, {"id": 2, "name": "rot, ü"}]
    assert written["states"] == [{"id": 1, "name": "intact"}, {"id": 2, "name": "damaged"}]
    first, second = written["annotations"]
    assert first == {"id": 1, **PREDICTIONS[0], "area": 1227.62, "iscrowd": 0}
    assert second["id"] == 2
    assert written["info"]["model"] == "m"
    assert sorted(path.name for path in folder.iterdir()) == ["dataset.jsonl", "predictions.csv", "predictions.json"]


@pytest.mark.parametrize("metadata", [METADATA, METADATA.model_copy(update={"states": []})])
@pytest.mark.parametrize("name", ["coco", "jsonl"])
def test_the_dataset_readers_accept_them(folder: Path, metadata: ModelMetadata, name: str) -> None:
    write_files(folder, metadata)
    first, second = READERS[name](folder, FindingLog())
    assert (folder / first.path).samefile(folder.parent / "a.jpg")
    assert (folder / second.path).samefile(folder.parent / "b.jpg")
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
        "image": (folder.parent / "a.jpg").as_posix(), "frame": "", "class": "rot, ü", "score": "0.9", "left": "10.0",
        "top": "20.0", "right": "40.5", "bottom": "60.25", "state": "damaged", "state_score": "0.7",
    }  # fmt: skip
    assert second["class"] == "bolt"


def test_video_frames_are_saved_for_the_dataset(folder: Path) -> None:
    frame = Frame(12, 0.44, 25.0)
    for kind in FILES:
        file = kind(folder, METADATA)
        file.add(decoded_image(folder.parent / "clip.mp4", frame), PREDICTIONS)
        file.close()
    (image,) = READERS["jsonl"](folder, FindingLog())
    assert image.path == "frames/clip.mp4/000012.jpg"
    assert image.sequence == "clip", "the split keeps the frames of a video together"
    with Image.open(folder / image.path) as saved:
        assert saved.size == (200, 100)
    (coco,) = json.loads((folder / "predictions.json").read_text())["images"]
    assert (coco["file_name"], coco["frame"], coco["seconds"]) == ("../clip.mp4", 12, 0.44)
    assert ",12," in (folder / "predictions.csv").read_text()


def test_files_without_images_are_valid(folder: Path) -> None:
    for kind in FILES:
        kind(folder, METADATA).close()
    assert json.loads((folder / "predictions.json").read_text())["images"] == []
    assert (folder / "dataset.jsonl").read_text() == ""
    assert (folder / "predictions.csv").read_text().count("\n") == 1


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
def test_complete_lines_remain_when_the_disk_is_full(
    folder: Path, kind: type[CocoFile | JsonLinesFile | CsvFile]
) -> None:
    file = kind(folder, METADATA)

    def fill() -> None:
        for _ in range(1000):
            file.add(decoded_image(folder.parent / "a.jpg"), PREDICTIONS)

    with largest_file(5000), pytest.raises(UserError, match=r"out/\w+\.\w+: cannot be written \(File too large\)"):
        fill()
    file.close()
    left = {path.name: path.read_text() for path in folder.iterdir()}
    if kind is CocoFile:
        assert left == {}, "half a JSON file is useless"
    elif kind is JsonLinesFile:
        lines = [json.loads(line) for line in left["dataset.jsonl"].splitlines()]
        assert len(lines) > 5
        assert len(left["dataset.jsonl"]) > 4000
    else:
        rows = list(csv.reader(left["predictions.csv"].splitlines()))
        assert {len(row) for row in rows} == {10}
        assert len(rows) % 2 == 1, "a header and two rows per image"


@pytest.mark.parametrize("kind", FILES)
def test_a_disk_that_is_full_from_the_start(folder: Path, kind: type[CocoFile | JsonLinesFile | CsvFile]) -> None:
    with largest_file(10), pytest.raises(UserError, match=r"out/\w+\.\w+: cannot be written"):
        kind(folder, METADATA).add(decoded_image(folder.parent / "a.jpg"), PREDICTIONS)
    assert [path.read_text() for path in folder.iterdir()] in ([], [""])


def test_older_files_are_replaced_and_never_written_through(folder: Path) -> None:
    """They may be links into DVC's cache."""
    old = folder.parent / "old"
    old.write_text("old")
    for name, link in (("predictions.json", Path.hardlink_to), ("dataset.jsonl", Path.hardlink_to),
                       ("predictions.csv", Path.symlink_to)):  # fmt: skip
        link(folder / name, old)
    write_files(folder)
    assert old.read_text() == "old"
    assert not any(path.is_symlink() or path.read_text() == "old" for path in folder.iterdir())


@pytest.mark.parametrize("kind", FILES)
def test_a_folder_that_cannot_be_written(tmp_path: Path, kind: type[CocoFile | JsonLinesFile | CsvFile]) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot be written \((Not a directory|File exists)\).*--out"):
        kind(tmp_path / "file", METADATA)


def test_relative_paths_resolve_links(tmp_path: Path) -> None:
    (tmp_path / "real/deep").mkdir(parents=True)
    (tmp_path / "photos").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / "real/deep")
    path = make_relative(tmp_path / "photos/a.jpg", tmp_path / "out")
    assert path == "../../photos/a.jpg"
    assert (tmp_path / "out" / path).resolve() == tmp_path / "photos/a.jpg"
