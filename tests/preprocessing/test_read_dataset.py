"""Reading and cleaning a dataset folder in one call."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from detector.core.errors import UserError
from detector.preprocessing.findings import FindingKind
from detector.preprocessing.read_dataset import read_clean_dataset
from detector.preprocessing.settings import PreprocessParams

PARAMS = PreprocessParams(
    dataset="raw",
    format="jsonl",
    min_trust=0.5,
    min_box_size=3,
    duplicate_iou=0.9,
    near_duplicate_similarity=0.85,
    on_error="drop",
)


def row(name: str, *labels: str, **more: Any) -> dict[str, Any]:
    """A line of dataset.jsonl with one box per label."""
    boxes = [
        {
            "annotation_label": label,
            "x_min_normalized": 0.1 * place,
            "y_min_normalized": 0.1,
            "x_max_normalized": 0.1 * place + 0.4,
            "y_max_normalized": 0.5,
        }
        for place, label in enumerate(labels)
    ]
    return {"image_path": name, "bounding_box_annotations": boxes, **more}


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three valid images, one to be converted, and a broken one; the working directory is the parent folder."""
    folder = tmp_path / "raw"
    folder.mkdir()
    for number, mode in enumerate(("RGB", "L", "RGB")):
        Image.new(mode, (100, 50), number).save(folder / f"{number}.png")
    (folder / "bad.png").write_bytes(b"")
    rows = [
        row("0.png", "a", split="test"),
        row("1.png", "b", split="test"),
        row("2.png", "c", split="val"),
        row("bad.png", "a", split="test"),
        row("0.png", "a"),
    ]
    (folder / "dataset.jsonl").write_text("".join(json.dumps(line) + "\n" for line in rows))
    monkeypatch.chdir(tmp_path)
    return folder


def test_the_whole_dataset(raw: Path) -> None:
    cleaned = read_clean_dataset(PARAMS, None, Path("out/images"), Path("cache"))
    assert [image.source for image in cleaned.images] == ["raw/0.png", "raw/1.png", "raw/2.png"]
    assert [image.image for image in cleaned.images][::2] == ["raw/0.png", "raw/2.png"]
    converted = cleaned.images[1]
    assert Path(converted.image).parent == Path("out/images")
    with Image.open(converted.image) as image:
        assert (image.mode, image.size) == ("RGB", (converted.width, converted.height))
    assert cleaned.labels.classes == ["a", "b", "c"]
    assert [(finding.kind, finding.image, finding.details) for finding in cleaned.log.listed] == [
        (FindingKind.DUPLICATE_ENTRY, "0.png", "first entry: dataset.jsonl:1"),
        (FindingKind.EMPTY_FILE, "bad.png", "the file is empty"),
        (FindingKind.IMAGE_CONVERTED, "1.png", "mode L"),
    ]
    assert cleaned == read_clean_dataset(PARAMS, None, Path("out/images"), Path("cache"))


def write_rows(folder: Path, *rows: dict[str, Any]) -> None:
    (folder / "dataset.jsonl").write_text("".join(json.dumps(line) + "\n" for line in rows))


@pytest.mark.parametrize(
    "name", ["", " ", "a\nb.png", "a\u2028b.png", "a\x85b.png", "a\udcffb.png", "a\0b.png", "\x1b.png"]
)
def test_a_path_that_cannot_be_kept_is_one_finding_and_the_run_goes_on(raw: Path, name: str) -> None:
    if name.strip() and "\0" not in name:
        (raw / "0.png").rename(raw / name)
    write_rows(raw, row(name, "a", "a"), row("2.png", "a"))
    cleaned = read_clean_dataset(PARAMS, None, Path("out"), Path("cache"))
    assert [image.source for image in cleaned.images] == ["raw/2.png"]
    assert cleaned.log.counts()["dropped_image"] == {"unusable_name": 1}
    assert (cleaned.log.boxes, cleaned.log.boxes_of_dropped_images) == (3, 2)
    cleaned.log.write_csv(Path("findings.csv"))
    Path("findings.csv").read_text(encoding="utf-8").encode()


def test_names_of_files_that_cannot_be_kept_are_dropped_in_folders_too(raw: Path) -> None:
    (raw / "data.yaml").write_text("names: [a]\ntrain: .\n")
    (raw / os.fsdecode(b"a\xff.png")).write_bytes((raw / "0.png").read_bytes())
    (raw / os.fsdecode(b"a\xff.txt")).write_text("0 0.5 0.5 0.5 0.5\n")
    (raw / "2.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    cleaned = read_clean_dataset(PARAMS.model_copy(update={"format": "yolo"}), None, Path("out"), Path("cache"))
    assert [image.source for image in cleaned.images] == ["raw/0.png", "raw/1.png", "raw/2.png"]
    assert cleaned.log.counts()["dropped_image"] == {"empty_file": 1, "unusable_name": 1}
    assert cleaned.log.boxes_of_dropped_images == 1


def test_an_image_in_several_lists_belongs_to_each(raw: Path) -> None:
    (raw / "data.yaml").write_text("names: [a]\ntrain: 1.txt\nval: 2.txt\n")
    (raw / "1.txt").write_text("0.png\n2.png\n")
    (raw / "2.txt").write_text("2.png\n")
    params = PARAMS.model_copy(update={"format": "yolo"})
    for split, names in ((None, ["0", "2"]), ("train", ["0", "2"]), ("val", ["2"])):
        cleaned = read_clean_dataset(params, split, Path("out"), Path("cache"))
        assert [image.source for image in cleaned.images] == [f"raw/{name}.png" for name in names]
        assert cleaned.log.counts()["note"]["several_splits"] == 1
    with pytest.raises(UserError, match=r"`test`.* train, val"):
        read_clean_dataset(params, "test", Path("out"), Path("cache"))


def test_all_files_images_and_boxes_add_up(raw: Path) -> None:
    (raw / "notes.txt").touch()
    (raw / ".hidden.png").touch()
    (raw / "more.png").touch()
    (raw / "other.jsonl").touch()
    bad = {**row("1.png", "b"), "bounding_box_annotations": [5, *row("1.png", "b")["bounding_box_annotations"]]}
    write_rows(raw, row("0.png", "a", "b"), bad, row("bad.png", "a"), row("0.png", "a"), row("none.png"), row("2.png"))
    cleaned = read_clean_dataset(PARAMS, None, Path("out"), Path("cache"))
    counts, files = cleaned.log.counts(), cleaned.log.files
    kept = sum(len(image.boxes) for image in cleaned.images)
    assert (files.found, files.images, files.annotations, files.passed_over) == (9, 4, 1, 4)
    assert len(cleaned.images) + sum(counts["dropped_image"].values()) == 6
    assert (cleaned.log.boxes, kept, cleaned.log.boxes_of_dropped_images) == (6, 3, 2)
    assert counts["dropped_box"] == {"invalid_box": 1}
    assert counts["note"] == {"hidden_file": 1, "skipped_annotation_file": 1, "unused_file": 1, "unused_image": 1}


def test_a_predefined_split_with_the_classes_of_the_whole_dataset(raw: Path) -> None:
    cleaned = read_clean_dataset(PARAMS, "val", Path("out/images"), Path("cache"))
    assert [image.source for image in cleaned.images] == ["raw/2.png"]
    assert cleaned.labels.classes == ["a", "b", "c"]
    with pytest.raises(UserError, match=r"raw: .*`train`.* test, val"):
        read_clean_dataset(PARAMS, "train", Path("out/images"), Path("cache"))


def test_a_folder_outside_has_absolute_paths(raw: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    cleaned = read_clean_dataset(PARAMS.model_copy(update={"dataset": "../raw"}), "val", Path("out"), Path("cache"))
    assert [Path(image.image) for image in cleaned.images] == [raw / "2.png"]


def test_a_missing_folder_and_an_empty_dataset(raw: Path) -> None:
    with pytest.raises(UserError, match="nowhere: no such folder"):
        read_clean_dataset(PARAMS.model_copy(update={"dataset": "nowhere"}), None, Path("out"), Path("cache"))
    (raw / "dataset.jsonl").write_text("")
    with pytest.raises(UserError, match="raw: no images in this jsonl dataset"):
        read_clean_dataset(PARAMS, None, Path("out"), Path("cache"))
