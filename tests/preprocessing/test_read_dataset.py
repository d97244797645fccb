"""A dataset's folder, read and cleaned in one call."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from detector.core.errors import UserError
from detector.preprocessing.cleaning import PreprocessParams
from detector.preprocessing.read_dataset import read_folder

RULES = PreprocessParams(
    dataset="raw", format="jsonl", trust_threshold=0.5, min_box_size=3, duplicate_iou=0.9, near_duplicate=0.85,
    on_error="drop",
)  # fmt: skip


def row(name: str, *labels: str, **more: Any) -> dict[str, Any]:
    """A line of dataset.jsonl with a box a label."""
    boxes = [
        {"annotation_label": label, "x_min_normalized": 0.1 * place, "y_min_normalized": 0.1,
         "x_max_normalized": 0.1 * place + 0.4, "y_max_normalized": 0.5}
        for place, label in enumerate(labels)
    ]  # fmt: skip
    return {"image_path": name, "bounding_box_annotations": boxes, **more}


@pytest.fixture
def raw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three good images, one of which has to be changed, and a broken one; the working directory is above."""
    folder = tmp_path / "raw"
    folder.mkdir()
    for number, mode in enumerate(("RGB", "L", "RGB")):
        Image.new(mode, (100, 50), number).save(folder / f"{number}.png")
    (folder / "bad.png").write_bytes(b"")
    rows = [
        row("0.png", "a", split="test"), row("1.png", "b", split="test"), row("2.png", "c", split="val"),
        row("bad.png", "a", split="test"), row("0.png", "a"),
    ]  # fmt: skip
    (folder / "dataset.jsonl").write_text("".join(json.dumps(line) + "\n" for line in rows))
    monkeypatch.chdir(tmp_path)
    return folder


def test_everything_that_can_be_used(raw: Path) -> None:
    cleaned = read_folder(RULES, None, Path("out/images"), Path("memory"))
    assert [image.source for image in cleaned.images] == ["raw/0.png", "raw/1.png", "raw/2.png"]
    assert [image.image for image in cleaned.images][::2] == ["raw/0.png", "raw/2.png"]
    changed = cleaned.images[1]
    assert Path(changed.image).parent == Path("out/images")
    with Image.open(changed.image) as image:
        assert (image.mode, image.size) == ("RGB", (changed.width, changed.height))
    assert cleaned.labels.classes == ["a", "b", "c"]
    assert [(finding.reason, finding.image) for finding in cleaned.findings] == [
        ("empty file, image dropped", "bad.png"),
        ("image listed twice, dropped", "0.png"),
        ("mode L, converted", "1.png"),
    ]
    assert cleaned == read_folder(RULES, None, Path("out/images"), Path("memory"))


def test_one_of_its_own_lists_with_the_classes_of_all(raw: Path) -> None:
    cleaned = read_folder(RULES, "val", Path("out/images"), Path("memory"))
    assert [image.source for image in cleaned.images] == ["raw/2.png"]
    assert cleaned.labels.classes == ["a", "b", "c"]
    with pytest.raises(UserError, match="raw: no image is in a list `train`; the dataset has test, val"):
        read_folder(RULES, "train", Path("out/images"), Path("memory"))


def test_a_folder_elsewhere_has_absolute_paths(raw: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    cleaned = read_folder(RULES.model_copy(update={"dataset": "../raw"}), "val", Path("out"), Path("memory"))
    assert [Path(image.image) for image in cleaned.images] == [raw / "2.png"]


def test_nothing_to_read(raw: Path) -> None:
    with pytest.raises(UserError, match="nowhere: no such folder"):
        read_folder(RULES.model_copy(update={"dataset": "nowhere"}), None, Path("out"), Path("memory"))
    (raw / "dataset.jsonl").write_text("")
    with pytest.raises(UserError, match="raw: no images in this jsonl dataset"):
        read_folder(RULES, None, Path("out"), Path("memory"))
