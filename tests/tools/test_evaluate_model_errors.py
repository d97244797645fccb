"""What `tools/evaluate_model.py` says when it is given something that it cannot use; nothing here runs a model."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import evaluate_model
from detector.comparison import model_evaluation
from detector.core.errors import UserError
from detector.engine.detections import Detections
from detector.runners.model_metadata import ModelMetadata

ROOT = Path(__file__).parents[2]
METADATA = ModelMetadata(
    model="blind", classes=["a", "b"], states=["whole", "gone"], size=(32, 32), fill=(0, 0, 0), data=""
)
NO_LABELS, NO_SCORES = np.zeros(0, np.int64), np.zeros(0, np.float32)
NOTHING = Detections(np.zeros((0, 4)), NO_SCORES, NO_LABELS, NO_LABELS, NO_SCORES)


def detect_nothing(images: NDArray[np.uint8]) -> list[Detections]:
    return [NOTHING] * len(images)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A split, a folder, and a model that finds nothing and says that it came from models/blind.onnx."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    for name in ("data/coco", "models", "raw"):
        Path(name).mkdir(parents=True)
    Path("models/blind.onnx").write_bytes(b"blind")
    Image.new("RGB", (80, 40)).save("raw/1.png")
    write_coco()
    write_raw()
    monkeypatch.setattr(model_evaluation, "open_onnx", lambda path, threads: (METADATA, detect_nothing))
    return tmp_path


def write_coco(name: str = "a", state: int = 0, **more: Any) -> None:
    """data/coco/test.json with one object of a class and in a state."""
    coco = {
        "images": [{"id": 1, "file_name": "raw/1.png", "width": 80, "height": 40, "content": "1"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 20], "area": 400, "iscrowd": 0,
                         "state": state}],
        "categories": [{"id": 1, "name": name}],
        "states": [{"id": 1, "name": "gone", "present": False}],
    }  # fmt: skip
    Path("data/coco/test.json").write_text(json.dumps(coco | more))


def write_raw(label: str = "a", path: str = "1.png") -> None:
    """raw/dataset.jsonl with one box."""
    keys = ("x_min_normalized", "y_min_normalized", "x_max_normalized", "y_max_normalized")
    box = {"annotation_label": label, **dict(zip(keys, (0.1, 0.1, 0.5, 0.5), strict=True))}
    Path("raw/dataset.jsonl").write_text(json.dumps({"image_path": path, "bounding_box_annotations": [box]}))


def error(*arguments: str) -> str:
    """The message of the error; no numbers may be left behind."""
    with pytest.raises(UserError) as caught:
        evaluate_model.main(list(arguments))
    assert not list(Path().rglob("metrics.json"))
    return str(caught.value)


BLIND = "models/blind.onnx"


def test_what_the_mistakes_are_made_from_is_right(project: Path) -> None:
    evaluate_model.main([BLIND, "test", "--tile", "50"])
    evaluate_model.main([BLIND, "raw", "--format", "jsonl"])
    numbers = [json.loads(path.read_text()) for path in Path("evaluations").glob("*/metrics.json")]
    assert [(one["AP"], one["threshold"], one["recall"]) for one in numbers] == [(0, 0.5, 0)] * 2
    assert sorted(path.name.split("_")[0] for path in Path("evaluations").iterdir()) == ["raw", "test"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["models/no.safetensors", "test"], "models/no.json: missing"),
        (["models/model.pt", "test"], "models/model.pt: expected"),
        ([BLIND, "raw", "--format", "voc"], "no Annotations/*.xml"),
        ([BLIND, "raw", "--format", "jsonl", "--split", "val"], "`val`"),
        ([BLIND, "test", "--format", "voc"], "test: --format and --split"),
        ([BLIND, "val"], "data/coco/val.json: missing"),
        ([BLIND, "nowhere"], "nowhere: missing"),
        ([BLIND, "raw/1.png"], "raw/1.png is not UTF-8 text"),
        ([BLIND, "test", "--tile", "31"], "--tile 31: "),
        ([BLIND, "test", "--tile", "80"], "--tile 80: "),
        ([BLIND, "test", "--tile", "50", "--overlap", "1"], "--overlap 1.0: "),
        ([BLIND, "test", "--overlap", "0.5"], "--overlap needs --tile"),
        ([BLIND, "test", "--tile", "50", "--overlap", "nan"], "--overlap nan: "),
        ([BLIND, "test", "--out", "raw/1.png"], "raw/1.png: cannot be written"),
        ([BLIND, "test", "--out", "raw/1.png/out"], "raw/1.png/out: cannot be written"),
    ],
)  # fmt: skip
def test_a_mistake_on_the_command_line(project: Path, arguments: list[str], message: str) -> None:
    assert message in error(*arguments)


@pytest.mark.parametrize("arguments", [[BLIND], [BLIND, "raw", "--format", "xml"], [BLIND, "test", "--tile", "big"]])
def test_a_command_that_cannot_be_parsed(
    project: Path, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        evaluate_model.main(arguments)
    assert caught.value.code == 2
    assert "usage: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("3", "found 3, expected a mapping"),
        ("[]", "found [], expected a mapping"),
        ('{"images": [], "annotations": [], "categories": []}', "the key `states` is missing"),
        ('{"images": [], "annotations": [{"id": 1}]}', "the key `annotations.0.image_id` is missing"),
        ('{"images": [], "annotations": [], "categories": [], "states": []}', "`images` is []"),
        ('{"images": [], "images": []}', "the key 'images' stands twice"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_file_that_is_no_split(project: Path, content: str, message: str) -> None:
    Path("some.json").write_text(content)
    found = error(BLIND, "some.json")
    assert found.startswith("some.json: ")
    assert message in found


def test_no_class_in_common(project: Path) -> None:
    write_coco("c")
    assert re.search(r"no class in common: .* a, b; .* c\b", error(BLIND, "test"))
    write_raw("c")
    assert "no class in common" in error(BLIND, "raw", "--format", "jsonl")


@pytest.mark.parametrize(("more", "left_out"), [({"annotations": []}, "0 boxes"), ({"state": 1}, "1 boxes")])
def test_no_object_to_detect(project: Path, more: dict[str, Any], left_out: str) -> None:
    write_coco(**more)
    assert error(BLIND, "test").startswith(f"no object to detect in 1 images with {left_out}")


def test_a_folder_without_a_usable_image(project: Path) -> None:
    write_raw(path="2.png")
    message = error(BLIND, "raw", "--format", "jsonl")
    assert message.startswith("raw: ")
    assert "1 missing_file" in message


def test_an_image_that_went_missing(project: Path) -> None:
    Path("raw/1.png").unlink()
    assert error(BLIND, "test").startswith("raw/1.png: the image cannot be used")


@pytest.mark.parametrize("suffix", ["onnx", "safetensors"])
def test_a_folder_in_the_models_place(project: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.chdir(project)
    Path(f"models/folder.{suffix}").mkdir()
    Path("models/folder.json").write_text("{}")
    assert f"models/folder.{suffix}" in error(f"models/folder.{suffix}", "test")


def test_what_only_one_side_knows_is_told(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    categories = [{"id": 1, "name": "a"}, {"id": 2, "name": "c"}]
    box = {"image_id": 1, "bbox": [5, 5, 20, 20], "area": 400, "iscrowd": 0}
    boxes = [{**box, "id": 1, "category_id": 1, "state": 2}, {**box, "id": 2, "category_id": 2, "state": 0}]
    write_coco(categories=categories, annotations=boxes, states=[{"id": 2, "name": "new", "present": True}])
    evaluate_model.main([BLIND, "test", "--out", "out"])
    about = json.loads(Path("out/metrics.json").read_text())["about"]
    assert about["classes"] == ["a"]
    assert about["classes_only_in_dataset"] == {"c": 1}
    assert about["classes_only_in_model"] == {"b": 0}
    assert about["states_only_in_dataset"] == {"new": 1}
    printed = capsys.readouterr().out
    assert re.search(r" 1  objects .*: c$", printed, re.MULTILINE)
    assert re.search(r" 0  detections .*: b$", printed, re.MULTILINE)
    assert re.search(r" 1  objects in a state .*: new$", printed, re.MULTILINE)


@pytest.mark.parametrize(
    ("arguments", "format_", "told"),
    [(["test"], None, ""), (["raw", "--format", "jsonl"], "jsonl", ""), (["raw"], "jsonl", "raw: format jsonl, ")],
)
def test_the_format_of_the_dataset_is_written(
    project: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], format_: str | None, told: str
) -> None:
    evaluate_model.main([BLIND, *arguments, "--out", "out"])
    assert json.loads(Path("out/metrics.json").read_text())["about"]["format"] == format_
    printed = capsys.readouterr().out
    assert printed.count("recognized by") == bool(told)
    assert told in printed
