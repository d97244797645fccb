"""`tools/evaluate_model.py` on a small model, whose own detections, in part, are the truth."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

import evaluate_model
from detector.core.params import load_section
from detector.engine.checkpoint import Card, save_checkpoint
from detector.engine.settings import PostprocessParams
from detector.exporting.onnx_file import export_onnx
from detector.models.postprocess import Postprocess
from detector.models.state_head import StateConfig
from detector.runners.tiled import detect_images
from detector.runners.torch_runner import build_runner, open_checkpoint
from tests.support.synthetic_model import build_synthetic_model

ROOT = Path(__file__).parents[2]
SIZE = (64, 96)
CHECKPOINT, EXPORTED = "models/detector.safetensors", "models/model.onnx"
CLASSES, STATES = ["a", "ü"], {"whole": True, "gone": False}
COUNTS = {"train": 3, "val": 6, "test": 8}


def coco(paths: list[str], sizes: list[tuple[int, int]]) -> dict[str, Any]:
    """A split as coco-convert writes it, without objects."""
    images = [
        {"id": id_, "file_name": path, "width": width, "height": height, "content": path}
        for id_, (path, (width, height)) in enumerate(zip(paths, sizes, strict=True), 1)
    ]
    return {
        "images": images,
        "annotations": [],
        "categories": [{"id": id_, "name": name} for id_, name in enumerate(CLASSES, 1)],
        "states": [{"id": id_, "name": name, "present": STATES[name]} for id_, name in enumerate(STATES, 1)],
    }


def data_hash() -> str:
    """As train writes it."""
    return hashlib.sha256(
        b"".join(Path(f"data/coco/{split}.json").read_bytes() for split in ("train", "val"))
    ).hexdigest()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project's folder after train and export."""
    root = tmp_path_factory.mktemp("evaluate_model")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        make_project()
    return root


def make_project() -> None:
    """params.yaml, images, splits, a checkpoint and its ONNX file, in the working directory."""
    rng = np.random.default_rng(0)
    params = (ROOT / "params.yaml").read_text()
    before, evaluate = params.split("\nevaluate:\n")
    Path("params.yaml").write_text(f"{before}\nevaluate:\n" + evaluate.replace("threads: 2", "threads: 1"))
    Path("data/coco").mkdir(parents=True)
    pixels = rng.integers(0, 256, (sum(COUNTS.values()), *SIZE, 3), dtype=np.uint8)
    states = StateConfig(tuple(STATES.values()), (1.0, 1.0), 0.5)
    model: Any = build_synthetic_model("simple", states, pixels.transpose(0, 3, 1, 2).copy())
    with torch.no_grad():
        model.head.class_logits.bias[0] += 1.5  # or hardly any detection would be of the first class
    card = Card(
        model="simple",
        classes=CLASSES,
        states=list(STATES),
        size=SIZE,
        mean=(120,) * 3,
        std=(60,) * 3,
        recipe={},
        seed=0,
        data="",
        validation={},
    )
    save_checkpoint(Path(CHECKPOINT), model.state_dict(), card)
    postprocess = Postprocess(**load_section(Path("params.yaml"), "postprocess", PostprocessParams).model_dump())
    facts, model = open_checkpoint(Path(CHECKPOINT), postprocess, torch.device("cpu"))
    first = 0
    for split, count in COUNTS.items():
        paths = [Path(f"data/{split}_{number}.png") for number in range(count)]
        for path, one in zip(paths, pixels[first : first + count], strict=True):
            Image.fromarray(one).resize((192, 128)).save(path)
        first += count
        dataset = coco([path.as_posix() for path in paths], [(192, 128)] * count)
        for image, found in zip(
            dataset["images"], detect_images(paths, build_runner(model, torch.device("cpu")), facts, 4), strict=True
        ):
            chosen = rng.permutation(len(found.labels))[:6]
            for box, label in zip(found.boxes_xyxy[chosen].clip(0, [192, 128] * 2), found.labels[chosen], strict=True):
                left, top, right, bottom = (float(round(value)) for value in box)
                if right - left > 3 and bottom - top > 3:
                    number = len(dataset["annotations"]) + 1
                    dataset["annotations"].append(
                        {"id": number, "image_id": image["id"], "category_id": int(label), "iscrowd": 0,
                         "bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top),
                         "state": number % 3}
                    )  # fmt: skip
        Path(f"data/coco/{split}.json").write_text(json.dumps(dataset))
    assert {item["category_id"] for item in dataset["annotations"]} == {1, 2}
    save_checkpoint(Path(CHECKPOINT), model.state_dict(), card.model_copy(update={"data": data_hash()}))
    changes = {"data": data_hash(), "threshold": dict.fromkeys(CLASSES, 0.5)}
    export_onnx(model, facts.model_copy(update=changes), Path(EXPORTED))


@pytest.fixture
def project(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory; what a test writes there, besides evaluations/, it takes back."""
    monkeypatch.chdir(made)
    shutil.rmtree("evaluations", ignore_errors=True)
    return made


def run(out: Path, *arguments: str) -> dict[str, Any]:
    """metrics.json of `evaluate_model ARGUMENTS --out out`."""
    evaluate_model.main([*arguments, "--out", str(out)])
    metrics: dict[str, Any] = read(out / "metrics.json")
    return metrics


def read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def test_checkpoint_and_onnx_file_give_the_same_numbers(project: Path, tmp_path: Path) -> None:
    metrics = [run(tmp_path / name, file, "test") for name, file in (("torch", CHECKPOINT), ("onnx", EXPORTED))]
    assert 0.05 < metrics[0]["AP"] < 0.95
    for name in ("AP", "AP50", "AP75", "AR100", "threshold", "precision", "recall", "F1"):
        assert metrics[0][name] == pytest.approx(metrics[1][name], abs=1e-3), name
    details = [read(tmp_path / name / "details.json") for name in ("torch", "onnx")]
    for one, two in zip(details[0]["classes"], details[1]["classes"], strict=True):
        assert one["AP"] == pytest.approx(two["AP"], abs=1e-3)
    ours, theirs = (read(tmp_path / name / "predictions.json") for name in ("torch", "onnx"))
    assert len(ours) == len(theirs) > 50
    assert metrics[0]["state_F1"] > 0
    assert "state_F1" not in metrics[1]
    assert "checkpoint" in details[1]["notes"]["states"]


def test_the_folder_is_named_and_holds_everything_and_repeats(project: Path) -> None:
    contents = []
    for _ in range(2):
        evaluate_model.main([CHECKPOINT, "test"])
        (folder,) = Path("evaluations").iterdir()
        contents.append({str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.*")})
    digest = hashlib.sha256(Path(CHECKPOINT).read_bytes()).hexdigest()
    assert folder.name == f"test_detector-{digest[:8]}_safetensors"
    numbers = ["details.json", "ground_truth.json", "metrics.json", "predictions.json"]
    assert sorted(name for name in contents[0] if not name.startswith("pictures/")) == numbers
    assert {"pictures/best_01.jpg", "pictures/worst_02.jpg"} <= set(contents[0])
    assert contents[0] == contents[1]
    about = read(folder / "metrics.json")["about"]
    assert (about["model"], about["sha256"], about["images"]) == (CHECKPOINT, digest, COUNTS["test"])


def test_its_ground_truth_can_be_evaluated_again(project: Path, tmp_path: Path) -> None:
    first = run(tmp_path / "first", CHECKPOINT, "test")
    again = run(tmp_path / "again", CHECKPOINT, str(tmp_path / "first/ground_truth.json"))
    assert {**first, "about": None} == {**again, "about": None}


def test_the_threshold_comes_from_val_only_of_the_models_own_data(project: Path, tmp_path: Path) -> None:
    on_val = run(tmp_path / "val", CHECKPOINT, "val")
    on_test = run(tmp_path / "test", CHECKPOINT, "test")
    assert on_test["threshold"] == on_val["threshold"]
    assert on_test["about"]["threshold_chosen_on"] == "val"
    train = Path("data/coco/train.json")
    text = train.read_text()
    train.write_text(f"{text} ")
    try:
        other = run(tmp_path / "other", CHECKPOINT, "test")
    finally:
        train.write_text(text)
    assert "evaluated images themselves" in other["about"]["threshold_chosen_on"]
    assert other["F1"] >= on_test["F1"]
    assert other["AP"] == on_test["AP"]
    assert other["about"]["images_seen_in_training"] is None


def test_images_of_the_training_are_told(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(tmp_path / "out", CHECKPOINT, "train")["about"]["images_seen_in_training"] == COUNTS["train"]
    assert "3 of the images are in train" in capsys.readouterr().out


def boxes_of(truth: dict[str, Any], image: dict[str, Any]) -> list[tuple[str, str | None, list[float]]]:
    """(class, state, xyxy) of the objects of an image."""
    states = [None, *STATES]
    return [
        (CLASSES[item["category_id"] - 1], states[item["state"]],
         [item["bbox"][0], item["bbox"][1], item["bbox"][0] + item["bbox"][2], item["bbox"][1] + item["bbox"][3]])
        for item in truth["annotations"] if item["image_id"] == image["id"]
    ]  # fmt: skip


def write_jsonl(folder: Path, truth: dict[str, Any]) -> None:
    keys = ("x_min_normalized", "y_min_normalized", "x_max_normalized", "y_max_normalized")
    with (folder / "dataset.jsonl").open("w") as file:
        for image in truth["images"]:
            sides = [image["width"], image["height"]] * 2
            boxes = [
                {"annotation_label": name, "state": state,
                 **{key: value / side for key, value, side in zip(keys, xyxy, sides, strict=True)}}
                for name, state, xyxy in boxes_of(truth, image)
            ]  # fmt: skip
            row = {"image_path": Path(image["file_name"]).name, "bounding_box_annotations": boxes, "split": "test"}
            file.write(json.dumps(row) + "\n")


def write_voc(folder: Path, truth: dict[str, Any]) -> None:
    for name in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    for image in truth["images"]:
        file = Path(image["file_name"])
        (folder / file.name).rename(folder / "JPEGImages" / file.name)
        root = ElementTree.Element("annotation")
        ElementTree.SubElement(root, "filename").text = file.name
        for name, state, xyxy in boxes_of(truth, image):
            item = ElementTree.SubElement(root, "object")
            ElementTree.SubElement(item, "name").text = name
            if state:
                ElementTree.SubElement(item, "state").text = state
            box = ElementTree.SubElement(item, "bndbox")
            for key, value in zip(("xmin", "ymin", "xmax", "ymax"), xyxy, strict=True):
                ElementTree.SubElement(box, key).text = str(value)
        ElementTree.ElementTree(root).write(folder / f"Annotations/{file.stem}.xml", encoding="utf-8")
    names = "".join(Path(image["file_name"]).stem + "\n" for image in truth["images"])
    (folder / "ImageSets/Main/test.txt").write_text(names)


def write_coco(folder: Path, truth: dict[str, Any]) -> None:
    """The classes in another order, under other ids; the states by name."""
    names = [None, *STATES]
    images = [{**image, "file_name": Path(image["file_name"]).name} for image in truth["images"]]
    boxes = [
        {key: value for key, value in item.items() if key != "state"} | {"category_id": 30 - item["category_id"]}
        | ({"state": names[item["state"]]} if item["state"] else {})
        for item in truth["annotations"]
    ]  # fmt: skip
    categories = [{"id": 30 - id_, "name": name} for id_, name in enumerate(CLASSES, 1)]
    (folder / "test.json").write_text(json.dumps({"images": images, "annotations": boxes, "categories": categories}))


WRITERS = {"jsonl": write_jsonl, "voc": write_voc, "coco": write_coco}


@pytest.mark.parametrize("name", WRITERS)
def test_a_folder_in_another_format_gives_the_numbers_of_the_split(project: Path, tmp_path: Path, name: str) -> None:
    truth = read(Path("data/coco/test.json"))
    folder = tmp_path / "raw"
    folder.mkdir()
    for image in truth["images"]:
        shutil.copy(image["file_name"], folder)
    WRITERS[name](folder, truth)
    params = Path("params.yaml").read_text()
    Path("params.yaml").write_text(params.replace("\n  - absent\n", "\n  - gone\n"))
    try:
        found = run(tmp_path / "out", CHECKPOINT, str(folder), "--format", name, "--split", "test")
    finally:
        Path("params.yaml").write_text(params)
    expected = run(tmp_path / "split", CHECKPOINT, "test")
    assert found["about"]["objects"] == expected["about"]["objects"] > 10
    assert (tmp_path / "out/findings.csv").read_text() == "severity,kind,where,image,box,details\n"
    assert {**found, "about": None} == {**expected, "about": None}
    assert read(tmp_path / "out/details.json")["classes"] == read(tmp_path / "split/details.json")["classes"]
