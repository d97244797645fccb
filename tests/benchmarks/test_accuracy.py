"""The files that the peer is given, the verdicts, and the table of the models from a real training."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import accuracy, models, trainings, yolo_files
from benchmarks.trainings import Training
from detector.core.errors import UserError

COCO = {
    "images": [{"id": 7, "file_name": "a.png", "width": 100, "height": 50}],
    "annotations": [{"image_id": 7, "category_id": 2, "bbox": [10, 5, 40, 20]}],
    "categories": [{"id": 1, "name": "b"}, {"id": 2, "name": "a"}],
}


def test_yolo_files_say_what_the_coco_file_said(tmp_path: Path) -> None:
    Image.new("RGB", (100, 50)).save(tmp_path / "a.png")
    yolo_files.write_yolo({"train": COCO, "val": COCO}, tmp_path, tmp_path / "yolo")
    assert (tmp_path / "yolo/labels/train/7.txt").read_text() == "1 0.300000 0.300000 0.400000 0.400000\n"
    with Image.open(tmp_path / "yolo/images/val/7.png") as image:
        assert image.size == (100, 50)
    facts = json.loads((tmp_path / "yolo/data.yaml").read_text())
    assert facts["names"] == {"0": "b", "1": "a"}
    assert facts["val"] == "images/val"


def test_detections_of_the_peer() -> None:
    found = [{"image_id": "7", "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.5, "file_name": "7.png"}]
    assert yolo_files.predictions_of(found) == [
        {"image_id": 7, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.5, "state": 0, "state_score": 0.0}
    ]


@pytest.mark.parametrize(("wall", "ap", "passed"), [(30, 0.51, True), (34, 0.51, False), (30, 0.49, False)])
def test_a_target_is_both_time_and_accuracy(wall: float, ap: float, passed: bool) -> None:
    ours, peer = Training(wall, wall, 9.0, 1, 1, ap, 0.9), accuracy.Peer(100, 0.56, 0.9)
    row = accuracy.row_of(accuracy.OURS[0], ours, peer)
    assert row.passed is passed
    assert row.measured.startswith(f"{wall / 100:.2f} of the time, AP {ap:.3f}")


def test_settings_of_the_command_line() -> None:
    assert models.changes_of(["epochs=2", "zoom=[1.0, 1.5]"]) == {"epochs": 2, "zoom": [1.0, 1.5]}
    with pytest.raises(UserError, match="--set takes KEY=VALUE"):
        models.changes_of(["epochs"])


def test_a_dataset_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (accuracy, models):
        monkeypatch.setattr(sys, "argv", ["command", "nowhere"])
        with pytest.raises(UserError, match="nowhere is not a folder"):
            module.main()


@pytest.mark.long
def test_the_models_table_is_of_a_real_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_dataset(tmp_path / "raw")
    monkeypatch.setattr(models, "HOME", tmp_path / "home")
    arguments = "--format jsonl --strategy random --models simple --set epochs=1 size=64 batch_size=4 threads=1"
    monkeypatch.setattr(sys, "argv", ["command", str(tmp_path / "raw"), *arguments.split()])
    models.main()
    row = capsys.readouterr().out.splitlines()[-1].split(" | ")
    assert row[0] == "| `simple`"
    assert row[1] == f"{trainings.count_parameters(tmp_path / 'home/simple/models/detector.safetensors') / 1e6:.1f} M"
    assert row[3] == "1"
    shutil.rmtree(tmp_path / "home")


def write_dataset(folder: Path) -> None:
    """Sixteen chequered pictures with a box each, as JSON lines."""
    numbers = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    lines = []
    for index in range(16):
        pixels = numbers.integers(0, 256, (4, 4, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
        Image.fromarray(pixels).save(folder / f"images/{index}.png")
        box = {"annotation_label": "a", "x_min_normalized": 0.25, "y_min_normalized": 0.25,
               "x_max_normalized": 0.75, "y_max_normalized": 0.75}  # fmt: skip
        lines.append(json.dumps({"image_path": f"images/{index}.png", "bounding_box_annotations": [box]}))
    (folder / "dataset.jsonl").write_text("\n".join(lines) + "\n")
