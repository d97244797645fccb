"""The files written for YOLO, and its detections."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

from benchmarks import accuracy, model_comparison, yolo
from detector.core.errors import UserError

COCO = {
    "images": [{"id": 7, "file_name": "a.png", "width": 100, "height": 50}],
    "annotations": [{"image_id": 7, "category_id": 2, "bbox": [10, 5, 40, 20]}],
    "categories": [{"id": 1, "name": "b"}, {"id": 2, "name": "a"}],
}


def test_the_yolo_dataset_has_the_boxes_of_the_coco_file(tmp_path: Path) -> None:
    Image.new("RGB", (100, 50)).save(tmp_path / "a.png")
    yolo.write_yolo_dataset({"train": COCO, "val": COCO}, tmp_path, tmp_path / "yolo")
    assert (tmp_path / "yolo/labels/train/7.txt").read_text() == "1 0.300000 0.300000 0.400000 0.400000\n"
    with Image.open(tmp_path / "yolo/images/val/7.png") as image:
        assert image.size == (100, 50)
    content = json.loads((tmp_path / "yolo/data.yaml").read_text())
    assert content["names"] == {"0": "b", "1": "a"}
    assert content["val"] == "images/val"


def test_detections_become_coco_results() -> None:
    detections = [{"image_id": "7", "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.5, "file_name": "7.png"}]
    assert yolo.to_coco_results(detections) == [
        {"image_id": 7, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.5, "state": 0, "state_score": 0.0}
    ]


def test_the_environment_is_installed_again_for_other_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = []
    monkeypatch.setattr(yolo, "run_command_in", lambda _, *command: commands.append(command))
    (tmp_path / "environment").mkdir()
    for shared in (("torch",), ("torch",), ("torch", "onnx")):
        monkeypatch.setattr(yolo, "SHARED", shared)
        yolo.install_yolo(tmp_path)
    installed = [command[-1].partition("==")[0] for command in commands if "install" in command]
    assert installed == ["torch", "onnx"]


def test_a_missing_dataset_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (accuracy, model_comparison):
        monkeypatch.setattr(sys, "argv", ["command", "nowhere"])
        with pytest.raises(UserError, match="nowhere is not a folder"):
            module.main()
