"""A user's mistakes in `train:` and in the data, each with its own message."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import train
from detector.checkpoint import Card, save_checkpoint
from detector.data.dataset import Names, pack
from detector.errors import UserError
from detector.models import MODELS
from detector.models.normalization import PixelStatistics
from detector.models.postprocess import Postprocess
from detector.models.recipe import REFERENCE
from detector.models.state_head import States
from detector.params import parse_yaml
from detector.training.settings import TrainParams

ROOT = Path(__file__).parents[2]


def params(**changes: object) -> TrainParams:
    section = parse_yaml((ROOT / "params.yaml").read_text())["train"]
    return TrainParams.model_validate({**section, **changes})


def coco(images: int, boxes: int) -> dict[str, object]:
    return {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 64, "height": 48} for i in range(1, images + 1)],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": 1, "bbox": [0, 0, 9, 9], "iscrowd": 0, "state": 0}
            for i in range(1, boxes + 1)
        ],
        "categories": [{"id": 1, "name": "a"}],
        "states": [],
    }


def test_unknown_model_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"'faster_rnn'; known are simple, .*, faster_rcnn.*mean faster_rcnn\?"):
        train.find_model(params(model="faster_rnn"))


def test_weights_that_the_model_does_not_have() -> None:
    with pytest.raises(UserError, match="'imagenet'; simple takes auto, none"):
        train.find_model(params(model="simple", weights="imagenet"))


@pytest.mark.parametrize(("model", "expected"), [("simple", "none"), ("ssdlite", "imagenet")])
def test_auto_takes_the_best_weights(model: str, expected: str) -> None:
    assert train.weights_of(params(model=model, weights="auto"), MODELS[model]) == expected
    assert train.weights_of(params(model=model, weights="none"), MODELS[model]) == "none"


def checkpoint(path: Path, model: str, classes: list[str]) -> str:
    made = MODELS[model].build(len(classes), States(), PixelStatistics((1,) * 3, (60,) * 3), Postprocess(), "none")
    card = Card(model, classes, [], (64, 64), (1, 1, 1), (60, 60, 60), {}, 0, "", {})
    save_checkpoint(path, made.state_dict(), card)
    return str(path)


def test_weights_of_an_earlier_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = checkpoint(tmp_path / "old.safetensors", "simple", ["a", "b"])
    chosen = params(model="simple", weights=path)
    kind = train.find_model(chosen)
    statistics = train.statistics_of(chosen, kind, pack(coco(1, 1)))
    assert statistics == PixelStatistics((1, 1, 1), (60, 60, 60))
    assert train.pretrained(chosen, kind)
    model = kind.build(3, States(), statistics, Postprocess(), train.weights_of(chosen, kind))
    train.take_weights(model, Path(path), Names(["a", "b", "c"], [], []))
    assert "but for 2 tensors: head.class_logits.weight" in capsys.readouterr().out


def test_weights_of_another_model(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "old.safetensors", "simple", ["a"])
    with pytest.raises(UserError, match=r"old\.safetensors is of model simple, but `train\.model` is ssdlite"):
        train.find_model(params(model="ssdlite", weights=path))


def test_weights_that_are_not_there() -> None:
    with pytest.raises(UserError, match=r"nowhere\.json: missing"):
        train.find_model(params(weights="nowhere.safetensors"))


def test_images_without_objects() -> None:
    with pytest.raises(UserError, match="no present object in 3 images"):
        train.check_data(pack(coco(3, 0)), coco(3, 2), REFERENCE)


def test_val_without_objects() -> None:
    with pytest.raises(UserError, match=r"val\.json: no present object"):
        train.check_data(pack(coco(3, 2)), coco(3, 0), REFERENCE)


def test_batch_larger_than_the_dataset() -> None:
    with pytest.raises(UserError, match=r"`train\.batch_size` is 8, but train has 3 images"):
        train.check_data(pack(coco(3, 2)), coco(3, 2), dataclasses.replace(REFERENCE, batch_size=8))
    train.check_data(pack(coco(3, 2)), coco(3, 2), dataclasses.replace(REFERENCE, batch_size=3))


def test_a_missing_image_is_named(tmp_path: Path) -> None:
    from detector.data.dataset import DetectionDataset

    dataset = DetectionDataset(pack(coco(1, 1)), tmp_path, (32, 32), (0, 0, 0))
    with pytest.raises(UserError, match=r"1\.jpg.*cannot be read any more"):
        dataset[0]
    assert np.isclose(dataset.scale(0), 0.5)
