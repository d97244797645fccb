"""The norms of pretrained backbones, and what pixels pretrained weights want."""

from __future__ import annotations

import torch
from torch import nn

from detector.models import MODELS
from detector.models.normalization import IMAGENET, FrozenBatchNorm
from detector.models.pyramids import resnet50_pyramid


def test_a_frozen_norm_is_a_usual_one_that_training_leaves_alone() -> None:
    usual = nn.BatchNorm2d(3)
    nn.init.normal_(usual.weight)
    usual(torch.randn(4, 3, 5, 5))  # learns statistics
    frozen = FrozenBatchNorm(3)
    frozen.load_state_dict(usual.state_dict())
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    images = torch.randn(4, 3, 5, 5)
    assert torch.equal(nn.Sequential(frozen).train()(images), usual.eval()(images))
    assert all(torch.equal(value, before[name]) for name, value in frozen.state_dict().items())
    assert not any(parameter.requires_grad for parameter in frozen.parameters())


def test_from_scratch_all_of_a_backbone_learns() -> None:
    body = resnet50_pyramid("none", [2, 3, 4], None).body  # type: ignore[arg-type]
    assert all(parameter.requires_grad for parameter in body.parameters())
    pretrained = resnet50_pyramid("coco", [2, 3, 4], None).body  # type: ignore[arg-type]
    learns = {name.split(".")[0] for name, parameter in pretrained.named_parameters() if parameter.requires_grad}
    assert learns == {"layer2", "layer3", "layer4"}


def test_only_torchvisions_ssdlite_wants_other_pixels_for_coco() -> None:
    assert MODELS["ssdlite"].statistics_for("imagenet") == IMAGENET
    assert MODELS["ssdlite"].statistics_for("coco").mean == (127, 127, 127)
    assert MODELS["retinanet"].statistics_for("coco") == IMAGENET
