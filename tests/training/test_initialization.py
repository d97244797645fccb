"""What `train.model` and `train.weights` mean, and a user's mistakes in them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from detector.core.errors import UserError
from detector.engine.checkpoint import Card, save_checkpoint
from detector.engine.dataset import Names
from detector.models import MODELS
from detector.models.normalization import IMAGENET, PixelStatistics
from detector.models.postprocess import Postprocess
from detector.models.state_head import States
from detector.training.initialization import find_start, take_weights

STATISTICS = PixelStatistics((1, 2, 3), (60, 60, 60))
STATES = States((True, False), (1.0, 2.0), 0.5)


def build(classes: int, states: States = STATES) -> nn.Module:
    return MODELS["simple"].build(classes, states, STATISTICS, Postprocess(), "none")


def checkpoint(path: Path, classes: list[str]) -> str:
    card = Card("simple", classes, ["x", "y"], (64, 64), (1, 2, 3), (60, 60, 60), {}, 0, "", {})
    save_checkpoint(path, build(len(classes)).state_dict(), card)
    return str(path)


def test_unknown_model_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"'faster_rnn'; known are simple, .*, faster_rcnn.*mean faster_rcnn\?"):
        find_start("faster_rnn", "auto")


def test_weights_that_the_model_does_not_have() -> None:
    with pytest.raises(UserError, match="'imagenet'; simple takes auto, none"):
        find_start("simple", "imagenet")


@pytest.mark.parametrize(("model", "best"), [("simple", "none"), ("effnet_lite", "imagenet"), ("ssdlite", "coco")])
def test_auto_takes_the_best_weights(model: str, best: str) -> None:
    assert find_start(model, "auto").weights == best


def test_from_scratch_the_dataset_says_how_pixels_are_normalized() -> None:
    assert find_start("ssdlite", "none").statistics() is None
    assert not find_start("ssdlite", "none").pretrained
    assert find_start("ssdlite", "imagenet").statistics() == IMAGENET
    assert find_start("ssdlite", "coco").statistics() != IMAGENET


def test_an_earlier_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = checkpoint(tmp_path / "old.safetensors", ["a", "b"])
    start = find_start("simple", path)
    assert start.pretrained
    assert start.weights == "none"
    assert start.statistics() == STATISTICS
    same = build(2)
    take_weights(same, start, Names(["a", "b"], ["x", "y"], [True, False]), path)
    assert capsys.readouterr().out == f"starts from {path}, all of it\n"
    model = build(3)
    take_weights(model, start, Names(["a", "b", "c"], ["x", "y"], [True, False]), path)
    printed = capsys.readouterr().out
    assert "but for 2 tensors: head.class_logits.weight, head.class_logits.bias" in printed
    assert "told apart a, b; now it is a, b, c" in printed
    assert torch.equal(model.backbone.stem[0][0].weight, same.backbone.stem[0][0].weight)  # type: ignore[union-attr,index]


def test_what_is_known_of_the_states_is_the_datasets(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "old.safetensors", ["a"])
    model = build(1, States((False, True), (3.0, 4.0), 0.5))
    take_weights(model, find_start("simple", path), Names(["a"], [], []), path)
    assert model.head.states.present.tolist() == [False, True]  # type: ignore[union-attr]
    assert model.head.states.weights.tolist() == [3.0, 4.0]  # type: ignore[union-attr]


def test_an_earlier_training_of_another_model(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "old.safetensors", ["a"])
    with pytest.raises(UserError, match=r"old\.safetensors is of model simple, but `train\.model` is ssdlite"):
        find_start("ssdlite", path)


def test_an_earlier_training_that_is_not_there() -> None:
    with pytest.raises(UserError, match=r"nowhere\.json: missing"):
        find_start("simple", "nowhere.safetensors")
