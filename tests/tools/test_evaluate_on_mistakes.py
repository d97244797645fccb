"""What `tools/evaluate_on.py` says when it is given something that it cannot use; nothing here runs a model."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import any_model
import evaluate_on
from detector.core.errors import UserError
from detector.engine.detections import Detections
from detector.runners.tiled import ModelMetadata

ROOT = Path(__file__).parents[2]
FACTS = ModelMetadata("blind", ["a", "b"], ["whole", "gone"], (32, 32), (0, 0, 0), "")
NOTHING = Detections(np.zeros((0, 4)), *(np.zeros(0, np.int64),) * 4)


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
    monkeypatch.setattr(any_model, "open_onnx", lambda path, threads: (FACTS, lambda images: [NOTHING] * len(images)))
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
        evaluate_on.main(list(arguments))
    assert not list(Path().rglob("metrics.json"))
    return str(caught.value)


BLIND = "models/blind.onnx"


def test_what_the_mistakes_are_made_from_is_right(project: Path) -> None:
    evaluate_on.main([BLIND, "test", "--tile", "50"])
    evaluate_on.main([BLIND, "raw", "--format", "jsonl"])
    numbers = [json.loads(path.read_text()) for path in Path("evaluations").glob("*/metrics.json")]
    assert [(one["AP"], one["threshold"], one["recall"]) for one in numbers] == [(0, 0.5, 0)] * 2
    assert sorted(path.name.split("_")[0] for path in Path("evaluations").iterdir()) == ["raw", "test"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["models/no.safetensors", "test"], "models/no.json: missing; run `dvc repro train`, or `dvc pull`"),
        (["models/model.pt", "test"], "model.pt: expected a checkpoint (.safetensors) or an exported file (.onnx)"),
        ([BLIND, "raw"], "raw: say with --format what the folder holds: jsonl, parts, coco, voc, yolo"),
        ([BLIND, "raw", "--format", "voc"], "raw: no Annotations/*.xml found, expected one for each image"),
        ([BLIND, "raw", "--format", "jsonl", "--split", "val"], "no image is in a list `val`; the dataset has none"),
        ([BLIND, "test", "--format", "voc"], "test: --format and --split are for a dataset's folder, and this is none"),
        ([BLIND, "val"], "data/coco/val.json: missing; expected train, val, test (after `dvc repro coco-convert`), "
                         "a dataset's folder, or a COCO file that coco-convert wrote"),
        ([BLIND, "nowhere"], "nowhere: missing; expected train, val, test"),
        ([BLIND, "raw/1.png"], "raw/1.png: cannot be read as a COCO file"),
        ([BLIND, "test", "--tile", "31"], "--tile 31: a tile needs at least 32 pixels"),
        ([BLIND, "test", "--tile", "80"], "--tile 80: no image is larger, the largest has a side of 80 pixels"),
        ([BLIND, "test", "--tile", "50", "--overlap", "1"], "--overlap 1.0: expected a share from 0 to 0.9"),
        ([BLIND, "test", "--tile", "50", "--overlap", "nan"], "--overlap nan: expected a share from 0 to 0.9"),
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
        evaluate_on.main(arguments)
    assert caught.value.code == 2
    assert "usage: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "cannot be read as a COCO file"),
        ("{", "cannot be read as a COCO file"),
        ("3", "cannot be read as a COCO file"),
        ("[]", 'no COCO file that coco-convert wrote: no "images"'),
        (
            '{"images": [], "annotations": [], "categories": []}',
            'no "states"; for other COCO files, name the dataset\'s',
        ),
        ('{"images": [], "annotations": [{"id": 1}], "categories": [], "states": []}', 'no "state"'),
        ('{"images": [], "annotations": [], "categories": [], "states": []}', "no images, so nothing can be measured"),
    ],
)
def test_a_file_that_is_no_split(project: Path, content: str, message: str) -> None:
    Path("some.json").write_text(content)
    found = error(BLIND, "some.json")
    assert found.startswith("some.json: ")
    assert message in found


def test_no_class_in_common(project: Path) -> None:
    write_coco("c")
    assert error(BLIND, "test").startswith(
        "model and dataset have no class in common: the model knows a, b; the dataset has c"
    )
    write_raw("c")
    assert "the dataset has c" in error(BLIND, "raw", "--format", "jsonl")


@pytest.mark.parametrize(("more", "left_out"), [({"annotations": []}, "0 boxes"), ({"state": 1}, "1 boxes")])
def test_no_object_to_be_found(project: Path, more: dict[str, Any], left_out: str) -> None:
    write_coco(**more)
    assert error(BLIND, "test").startswith(f"no object to be found in 1 images with {left_out}")


def test_a_folder_without_a_usable_image(project: Path) -> None:
    write_raw(path="2.png")
    assert error(BLIND, "raw", "--format", "jsonl") == (
        "raw: not one of its images can be used: 1 x missing file, image dropped"
    )


def test_an_image_that_went_missing(project: Path) -> None:
    Path("raw/1.png").unlink()
    assert error(BLIND, "test").startswith("raw/1.png: the image cannot be read")


@pytest.mark.parametrize("suffix", ["onnx", "safetensors"])
def test_a_folder_in_the_models_place(project: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    monkeypatch.chdir(project)
    Path(f"models/folder.{suffix}").mkdir()
    Path("models/folder.json").write_text("{}")
    assert f"models/folder.{suffix}: " in error(f"models/folder.{suffix}", "test")


def test_what_only_one_side_knows_is_told(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    categories = [{"id": 1, "name": "a"}, {"id": 2, "name": "c"}]
    box = {"image_id": 1, "bbox": [5, 5, 20, 20], "area": 400, "iscrowd": 0}
    boxes = [{**box, "id": 1, "category_id": 1, "state": 2}, {**box, "id": 2, "category_id": 2, "state": 0}]
    write_coco(categories=categories, annotations=boxes, states=[{"id": 2, "name": "new", "present": True}])
    evaluate_on.main([BLIND, "test", "--out", "out"])
    about = json.loads(Path("out/metrics.json").read_text())["about"]
    assert about["classes"] == ["a"]
    assert about["classes_only_in_dataset"] == {"c": 1}
    assert about["classes_only_in_model"] == {"b": 0}
    assert about["states_only_in_dataset"] == {"new": 1}
    printed = capsys.readouterr().out
    assert "1  objects left out, of a class that the model does not know: c" in printed
    assert "0  detections left out, of a class that the dataset does not have: b" in printed
    assert "1  objects in a state that the model does not know: new" in printed
