"""COCO files that no coco-convert wrote: `tools/evaluate_model.py` refuses each with one error, or counts right."""

from __future__ import annotations

import copy
import json
import math
import random
import shutil
from collections.abc import Callable
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
from tests.support.attempts import attempt
from tests.support.json_mutations import mutate_json

ROOT = Path(__file__).parents[2]
METADATA = ModelMetadata(
    model="one", classes=["a", "b"], states=["whole", "gone"], size=(32, 64), fill=(0, 0, 0), data=""
)
ONE = Detections(np.array([[4.0, 4, 20, 20]]), np.array([0.75], np.float32), np.array([1]), np.array([1]),
                 np.array([0.5], np.float32))  # fmt: skip
BOX = {"bbox": [5, 5, 20, 20], "area": 400, "iscrowd": 0, "state": 1}
COCO: dict[str, Any] = {
    "images": [
        {"id": 1, "file_name": "raw/1.png", "width": 80, "height": 40, "content": "1"},
        {"id": 2, "file_name": "raw/2.png", "width": 80, "height": 40},
    ],
    "annotations": [
        {"id": 1, "image_id": 1, "category_id": 1, **BOX},
        {"id": 2, "image_id": 2, "category_id": 2, **BOX, "state": 0},
        {"id": 3, "image_id": 2, "category_id": 2, **BOX, "state": 2},
        {"id": 4, "image_id": 2, "category_id": 1, **BOX, "iscrowd": 1},
    ],
    "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    "states": [{"id": 1, "name": "whole", "present": True}, {"id": 2, "name": "gone", "present": False}],
}

# Where each refusal says that the fault is.
NAMED = ("some.json", "the image cannot be used", "no class in common", "no object to detect")


def detect_one(images: NDArray[np.uint8]) -> list[Detections]:
    return [ONE] * len(images)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two images, and a model that finds the same object in each."""
    monkeypatch.chdir(tmp_path)
    params = (ROOT / "params.yaml").read_text(encoding="utf-8")
    Path("params.yaml").write_text(
        params.replace("bootstrap_samples: 1000", "bootstrap_samples: 100"), encoding="utf-8"
    )
    Path("raw").mkdir()
    for number in (1, 2):
        Image.new("RGB", (80, 40)).save(f"raw/{number}.png")
    Path("one.onnx").write_bytes(b"one")
    monkeypatch.setattr(model_evaluation, "open_onnx", lambda path, threads: (METADATA, detect_one))


def count_objects(coco: dict[str, Any]) -> int:
    """Objects to detect: no crowd, in no absent state, of a class that the model knows."""
    names = {category["id"]: category["name"] for category in coco["categories"]}
    present = {0: True} | {state["id"]: state["present"] for state in coco["states"]}
    return sum(
        names[one["category_id"]] in METADATA.classes and present[one["state"]] and not one["iscrowd"]
        for one in coco["annotations"]
    )


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("count", [12, pytest.param(300, marks=pytest.mark.long)])
def test_mutated_coco_files(count: int) -> None:
    rng, accepted = random.Random(count), 0
    for _ in range(count):
        shutil.rmtree("out", ignore_errors=True)
        text = mutate_json(COCO, rng)
        Path("some.json").write_text(text, encoding="utf-8", errors="surrogateescape")
        _, message = attempt(lambda: evaluate_model.main(["one.onnx", "some.json", "--out", "out"]))
        if message:
            assert any(part in message for part in NAMED), message
            assert not Path("out/metrics.json").exists()
            continue
        accepted += 1
        metrics = json.loads(Path("out/metrics.json").read_text(encoding="utf-8"))
        assert metrics["about"]["objects"] == count_objects(json.loads(text))
        assert metrics["about"]["images"] == len(json.loads(text)["images"])
        assert all(0 <= metrics[name] <= 1 for name in ("AP", "AP50", "recall"))
        assert all(math.isfinite(value) for value in metrics.values() if isinstance(value, float))
    assert 0 < accepted < count


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda coco: coco["images"][1].update(width=100), "raw/2.png: .* has 80x40 pixels, .* are for 100x40"),
        (
            lambda coco: coco["annotations"][1].update(bbox=[90, 5, 5, 5]),
            "some.json: `annotations.1.bbox` .* raw/2.png",
        ),
        (lambda coco: coco["categories"][0].update(name="a\nb"), r"some.json: `categories.0.name` is 'a\\nb'"),
        (lambda coco: coco["states"][0].update(name="who\nle"), r"some.json: `states.0.name` is 'who\\nle'"),
    ],
)
@pytest.mark.parametrize("tiles", [[], ["--tile", "32"]])
def test_what_no_picture_could_show_is_refused(
    change: Callable[[dict[str, Any]], None], message: str, tiles: list[str]
) -> None:
    coco = copy.deepcopy(COCO)
    change(coco)
    Path("some.json").write_text(json.dumps(coco), encoding="utf-8")
    with pytest.raises(UserError, match=message):
        evaluate_model.main(["one.onnx", "some.json", "--out", "out", *tiles])
    assert not Path("out/metrics.json").exists()
