"""Frozen batch norms of pretrained backbones, and the pixel normalization of pretrained weights."""

from __future__ import annotations

import torch
from torch import nn

from detector.models import MODELS
from detector.models.normalization import IMAGENET_STATISTICS, FrozenBatchNorm
from detector.models.pyramids import build_resnet50_fpn


def test_a_frozen_norm_equals_a_batch_norm_and_does_not_train() -> None:
    trainable = nn.BatchNorm2d(3)
    nn.init.normal_(trainable.weight)
    trainable(torch.randn(4, 3, 5, 5))  # updates the statistics
    frozen = FrozenBatchNorm(3)
    frozen.load_state_dict(trainable.state_dict())
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    images = torch.randn(4, 3, 5, 5)
    assert torch.equal(nn.Sequential(frozen).train()(images), trainable.eval()(images))
    assert all(torch.equal(value, before[name]) for name, value in frozen.state_dict().items())
    assert not any(parameter.requires_grad for parameter in frozen.parameters())


def test_a_backbone_from_scratch_is_fully_trainable() -> None:
    body = build_resnet50_fpn("none", [2, 3, 4], None).body
    assert all(parameter.requires_grad for parameter in body.parameters())
    pretrained = build_resnet50_fpn("coco", [2, 3, 4], None).body
    trainable = {name.split(".")[0] for name, parameter in pretrained.named_parameters() if parameter.requires_grad}
    assert trainable == {"layer2", "layer3", "layer4"}


def test_only_ssdlite_has_other_pixel_statistics_for_coco() -> None:
    assert MODELS["ssdlite"].choose_statistics("imagenet") == IMAGENET_STATISTICS
    assert MODELS["ssdlite"].choose_statistics("coco").mean == (127, 127, 127)
    assert MODELS["retinanet"].choose_statistics("coco") == IMAGENET_STATISTICS
