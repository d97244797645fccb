"""Parameter groups, learning-rate schedules and averaged weights."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from detector.models.recipe import REFERENCE, Recipe
from detector.training.optimization import AveragedWeights, Schedule, make_optimizer


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.head = nn.Linear(4, 2)


def recipe(**changes: object) -> Recipe:
    return dataclasses.replace(REFERENCE, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["sgd", "adamw"])
def test_norms_and_biases_have_no_weight_decay(name: str) -> None:
    net = Net()
    optimizer = make_optimizer(net, recipe(optimizer=name, weight_decay=0.1, backbone_lr_factor=0.1, lr=0.5))
    assert len(optimizer.param_groups) == 4
    found = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    for name_, parameter in net.named_parameters():
        group = found[id(parameter)]
        assert group["weight_decay"] == (0.1 if parameter.ndim > 1 else 0)
        assert group["lr"] == pytest.approx(0.05 if name_.startswith("backbone") else 0.5)


def test_frozen_parameters_are_left_out() -> None:
    net = Net()
    net.backbone.requires_grad_(False)
    groups = make_optimizer(net, recipe()).param_groups
    assert sum(len(group["params"]) for group in groups) == 2


def schedule(**changes: object) -> Schedule:
    changed = recipe(warmup_iterations=10, **changes)
    return Schedule(make_optimizer(Net(), changed), changed, 100)


def test_warm_up_rises_linearly_from_a_thousandth() -> None:
    rising = [schedule(schedule="constant").factor(i) for i in (0, 5, 10)]
    assert rising == pytest.approx([0.001, 0.5005, 1.0])


def test_warm_up_takes_at_most_a_fifth() -> None:
    changed = recipe(warmup_iterations=500, schedule="constant")
    assert Schedule(make_optimizer(Net(), changed), changed, 100).factor(20) == 1


def test_multistep() -> None:
    steps = schedule(schedule="multistep", lr_steps=(0.5, 0.8))
    assert [steps.factor(i) for i in (10, 49, 50, 79, 80)] == pytest.approx([1, 1, 0.1, 0.1, 0.01])


def test_cosine_ends_at_min_lr_ratio() -> None:
    cosine = schedule(schedule="cosine", min_lr_ratio=0.05)
    assert cosine.factor(10) == pytest.approx(1)
    assert cosine.factor(55) == pytest.approx(0.525)
    assert cosine.factor(100) == pytest.approx(0.05)


def test_plateau_halves_after_three_epochs_without_progress() -> None:
    plateau = schedule(schedule="plateau")
    for loss in (0.5, 0.6, 0.6, 0.5):
        plateau.finish_epoch(loss)
    assert plateau.factor(50) == 1
    plateau.finish_epoch(0.5)
    assert plateau.factor(50) == 0.5


def test_plateau_goes_on_while_the_loss_falls() -> None:
    plateau = schedule(schedule="plateau")
    for epoch in range(10):
        plateau.finish_epoch(1 / (epoch + 1))
    assert plateau.factor(50) == 1


def test_step_scales_every_group() -> None:
    changed = recipe(warmup_iterations=0, schedule="cosine", min_lr_ratio=0.0, lr=1.0, backbone_lr_factor=0.1)
    optimizer = make_optimizer(Net(), changed)
    assert Schedule(optimizer, changed, 100).step(50) == pytest.approx(0.5)
    assert sorted({round(group["lr"], 6) for group in optimizer.param_groups}) == [0.05, 0.5]


def test_average_follows_weights_and_buffers() -> None:
    net = Net()
    average = AveragedWeights(net, 0.9)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(1)
    net.backbone[1].num_batches_tracked.add_(7)  # type: ignore[operator]
    for _ in range(600):
        average.update(net)
    for own, new in zip(average.model.state_dict().values(), net.state_dict().values(), strict=True):
        assert torch.allclose(own.double(), new.double(), atol=1e-5)


def test_no_decay_is_the_model_itself() -> None:
    net = Net()
    average = AveragedWeights(net, 0.0)
    with torch.no_grad():
        net.head.weight.fill_(3)
    average.update(net)
    assert torch.equal(average.model.get_parameter("head.weight"), net.head.weight)
    assert not any(parameter.requires_grad for parameter in average.model.parameters())
