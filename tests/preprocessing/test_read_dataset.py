"""Reading and cleaning a dataset folder in one call."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from detector.core.errors import UserError
from detector.preprocessing.cleaning import PreprocessParams
from detector.preprocessing.findings import FindingKind
from detector.preprocessing.read_dataset import read_clean_dataset

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
        (FindingKind.EMPTY_FILE, "bad.png", ""),
        (FindingKind.IMAGE_CONVERTED, "1.png", "mode L"),
    ]
    assert cleaned == read_clean_dataset(PARAMS, None, Path("out/images"), Path("cache"))


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
