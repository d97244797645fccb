"""The summary before a training, which changes nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from detector.models import MODELS
from detector.models.normalization import PixelStatistics
from detector.models.postprocess import Postprocess
from detector.models.recipe import REFERENCE
from detector.models.state_head import StateConfig
from detector.training.summary import count_gflops, describe_parts, describe_training, format_settings
from tests.support.models import TESTED

CPU = torch.device("cpu")


class Toy(nn.Module):
    """Draws a random number and updates its statistics in every mode."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 10, 3, padding=1, bias=False), nn.BatchNorm2d(10))
        self.activation = nn.ReLU()
        self.head = nn.Conv2d(10, 5, 1, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        output: Tensor = self.head(self.activation(self.backbone(images.float() + torch.rand(()))))
        return output.mean()


class Loader:
    """A dataset size and a number of batches."""

    def __init__(self, images: int, batches: int) -> None:
        self.dataset, self._batches = range(images), batches

    def __len__(self) -> int:
        return self._batches


@pytest.fixture
def model() -> Iterator[Toy]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield Toy()


def test_parts_and_their_frozen_fraction(model: Toy) -> None:
    model.backbone[0].requires_grad_(False)
    assert [line.split() for line in describe_parts(model)] == [
        ["backbone", "0.000", "M", "parameters", "93%", "frozen"],  # 270 of 290
        ["head", "0.000", "M", "parameters"],
        ["all", "0.000", "M", "parameters", "79%", "frozen"],
    ]
    assert len({line.index(" M ") for line in describe_parts(model)}) == 1


def test_operations_of_the_convolutions_are_counted(model: Toy) -> None:
    assert count_gflops(model, (32, 64), CPU) == pytest.approx(2 * 32 * 64 * (3 * 10 * 9 + 10 * 5) / 1e9)


def test_counting_changes_nothing(model: Toy) -> None:
    model.train()
    model.backbone[1].eval()
    before, random_state = {name: value.clone() for name, value in model.state_dict().items()}, torch.get_rng_state()
    count_gflops(model, (32, 32), CPU)
    assert torch.equal(torch.get_rng_state(), random_state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert model.training
    assert model.head.training
    assert not model.backbone[1].training
    assert all(parameter.grad is None for parameter in model.parameters())


def test_every_setting_is_shown_in_aligned_columns() -> None:
    recipe = dataclasses.replace(REFERENCE, freeze=("backbone.a", "neck"))
    lines = format_settings(recipe)
    text = "\n".join(lines)
    assert all(f"{field.name} " in text for field in dataclasses.fields(recipe))
    assert "lr_steps [0.6154, 0.8462]" in text
    assert "freeze [backbone.a, neck]" in text
    assert len(lines) <= 10
    assert max(map(len, lines)) < 120
    starts = [
        line.index(name)
        for line, name in zip(lines, ("grad_clip_norm", "backbone_lr_factor", "class_loss_weight"), strict=False)
    ]
    assert len(set(starts)) == 1


def test_the_summary_is_short(model: Toy) -> None:
    train, val = Loader(205, 25), Loader(87, 11)
    recipe = dataclasses.replace(REFERENCE, accumulate_steps=2)
    text = describe_training("toy", model, recipe, (32, 64), SimpleNamespace(train=train, val=val))  # type: ignore[arg-type]
    assert text.startswith("toy at 32x64 (height x width): 0.00 GFLOPs per image")
    for fact in ("205 training images", "25 batches", "13 steps", "87 validation images"):
        assert fact in text
    assert len(text.splitlines()) < 25


@pytest.mark.parametrize("name", TESTED)
def test_operations_of_every_model_are_counted(name: str) -> None:
    statistics = PixelStatistics((120, 110, 100), (60, 60, 60))
    built = MODELS[name].build(
        2, StateConfig((True,), (1.0,), 0.5), statistics, Postprocess(0.1, max_detections=5), "none"
    )
    trainable = [parameter.requires_grad for parameter in built.parameters()]
    assert count_gflops(built, (64, 64), CPU) > 0.01
    assert [parameter.requires_grad for parameter in built.parameters()] == trainable
