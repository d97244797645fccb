"""A model whose outputs look like those of a trained one, without training."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from detector.engine.structures import Targets
from detector.models import MODELS
from detector.models.dense_head import DenseHead
from detector.models.normalization import PixelStatistics
from detector.models.postprocess import Postprocess
from detector.models.query_architectures import ARCHITECTURES
from detector.models.query_weights import CLASS_TENSOR
from detector.models.state_head import StateConfig
from tests.support.targets import no_targets, whole_image_targets


def one_object_each(count: int, size: tuple[int, int]) -> Targets:
    """Targets of `count` images with a box in the middle."""
    height, width = size
    box = torch.tensor([0.2 * width, 0.2 * height, 0.7 * width, 0.7 * height])
    one = torch.ones(count, 1, dtype=torch.int64)
    return whole_image_targets(box.repeat(count, 1, 1), one, one, size)


def build_synthetic_model(name: str, states: StateConfig, images: NDArray[np.uint8]) -> torch.nn.Module:
    """Build a model of two classes with well-separated scores: tied scores would have an arbitrary order.

    Every layer is rescaled so that its outputs on these images [B, 3, H, W] have a standard deviation of about 1.
    """
    torch.manual_seed(0)
    postprocess = Postprocess(0.001, max_detections=30)
    model = MODELS[name].build(2, states, PixelStatistics((120,) * 3, (60,) * 3), postprocess, "none")

    def rescale(layer: Any, _: object, output: torch.Tensor) -> torch.Tensor:
        hooks.pop(layer).remove()  # a layer shared by all levels is rescaled on the finest one
        std = output.std().clamp(min=1e-3)
        layer.weight /= std
        return output / std

    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # sets the statistics to those of this batch
    layers = [module for module in model.modules() if isinstance(module, torch.nn.Conv2d | torch.nn.Linear)]
    hooks = {layer: layer.register_forward_hook(rescale) for layer in layers}
    with torch.no_grad():
        head = getattr(model, "head", None)
        targets = no_targets(len(images), images.shape[-2:])
        if isinstance(head, DenseHead):  # computes states only where there is an object
            targets = one_object_each(len(images), images.shape[-2:])
        model.train()(torch.from_numpy(images), targets)
        if name in ARCHITECTURES:  # a class has 1% at first: with so few queries, hardly any would be detected
            for tensor, value in model.named_parameters():
                if CLASS_TENSOR.search(tensor) and tensor.endswith(".bias"):
                    value.zero_()
        elif isinstance(head, DenseHead):  # its first scores are below the threshold
            assert not hooks, "a layer was not rescaled"
            assert head.class_logits.bias is not None
            head.class_logits.bias.fill_(-math.log(99))
    return model.eval()
