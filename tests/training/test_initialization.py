"""Resolving `train.model` and `train.weights`, and user errors in them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from detector.core.errors import UserError
from detector.engine.checkpoint import Card, save_checkpoint
from detector.engine.dataset import LabelNames
from detector.models import MODELS
from detector.models.normalization import IMAGENET_STATISTICS, PixelStatistics
from detector.models.postprocess import Postprocess
from detector.models.state_head import StateConfig
from detector.training.initialization import load_initial_weights, resolve_initialization

STATISTICS = PixelStatistics((1, 2, 3), (60, 60, 60))
STATES = StateConfig((True, False), (1.0, 2.0), 0.5)


def build(classes: int, states: StateConfig = STATES) -> nn.Module:
    return MODELS["simple"].build(classes, states, STATISTICS, Postprocess(), "none")


def checkpoint(path: Path, classes: list[str]) -> str:
    card = Card(
        model="simple",
        classes=classes,
        states=["x", "y"],
        size=(64, 64),
        mean=(1, 2, 3),
        std=(60, 60, 60),
        recipe={},
        seed=0,
        data="",
        validation={},
    )
    save_checkpoint(path, build(len(classes)).state_dict(), card)
    return str(path)


def test_unknown_model_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"'faster_rnn'.* simple, .*, faster_rcnn.* faster_rcnn\?"):
        resolve_initialization("faster_rnn", "auto")


def test_weights_that_the_model_does_not_accept() -> None:
    with pytest.raises(UserError, match=r"'imagenet'; simple .* auto, none"):
        resolve_initialization("simple", "imagenet")


@pytest.mark.parametrize(("model", "best"), [("simple", "none"), ("effnet_lite", "imagenet"), ("ssdlite", "coco")])
def test_auto_is_the_best_available_weights(model: str, best: str) -> None:
    assert resolve_initialization(model, "auto").weights == best


def test_only_pretrained_weights_have_pixel_statistics() -> None:
    assert resolve_initialization("ssdlite", "none").statistics() is None
    assert not resolve_initialization("ssdlite", "none").pretrained
    assert resolve_initialization("ssdlite", "imagenet").statistics() == IMAGENET_STATISTICS
    assert resolve_initialization("ssdlite", "coco").statistics() != IMAGENET_STATISTICS


def test_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = checkpoint(tmp_path / "old.safetensors", ["a", "b"])
    initialization = resolve_initialization("simple", path)
    assert initialization.pretrained
    assert initialization.weights == "checkpoint"
    assert initialization.statistics() == STATISTICS
    same = build(2)
    load_initial_weights(same, initialization, LabelNames(["a", "b"], ["x", "y"], [True, False]), path)
    assert capsys.readouterr().out == f"initialized from {path}\n"
    model = build(3)
    load_initial_weights(model, initialization, LabelNames(["a", "b", "c"], ["x", "y"], [True, False]), path)
    assert capsys.readouterr().out == f"initialized from {path}; new classes: c, trained: a, b\n"
    load_initial_weights(build(2), initialization, LabelNames(["u", "v"], ["y", "z"], [True, False]), path)
    printed = capsys.readouterr().out
    assert "new classes: u, v (none of the trained classes has a name of yours)" in printed
    assert "new states: z, trained: y" in printed
    assert torch.equal(model.backbone.stem[0][0].weight, same.backbone.stem[0][0].weight)  # type: ignore[union-attr,index]


def test_state_buffers_come_from_the_dataset(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "old.safetensors", ["a"])
    model = build(1, StateConfig((False, True), (3.0, 4.0), 0.5))
    load_initial_weights(
        model, resolve_initialization("simple", path), LabelNames(["a"], ["x", "y"], [False, True]), path
    )
    assert model.get_buffer("head.states.present").tolist() == [False, True]
    assert model.get_buffer("head.states.weights").tolist() == [3.0, 4.0]


def test_a_checkpoint_of_another_model(tmp_path: Path) -> None:
    path = checkpoint(tmp_path / "old.safetensors", ["a"])
    with pytest.raises(UserError, match=r"old\.safetensors.* simple,.*`train\.model` is ssdlite"):
        resolve_initialization("ssdlite", path)


def test_a_missing_checkpoint() -> None:
    with pytest.raises(UserError, match=r"nowhere\.json: missing"):
        resolve_initialization("simple", "nowhere.safetensors")
