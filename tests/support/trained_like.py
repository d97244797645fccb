"""A model that answers as after training, without any."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from detector.engine.structures import Targets
from detector.models import MODELS
from detector.models.normalization import PixelStatistics
from detector.models.postprocess import Postprocess
from detector.models.state_head import States


def trained_like(name: str, states: States, images: NDArray[np.uint8]) -> torch.nn.Module:
    """A model of two classes whose scores are spread, as after training: ties would make the order a matter of chance.

    On these images [B, 3, H, W] the outputs of each layer deviate by about 1, and batch norms know it.
    """
    torch.manual_seed(0)
    postprocess = Postprocess(0.001, max_detections=30)
    model = MODELS[name].build(2, states, PixelStatistics((120,) * 3, (60,) * 3), postprocess, "none")

    def rescale(layer: Any, _: object, output: torch.Tensor) -> torch.Tensor:
        hooks.pop(layer).remove()  # one that all levels share answers to the finest
        deviation = output.std().clamp(min=1e-3)
        layer.weight /= deviation
        return output / deviation

    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = None  # the statistics become those of the one batch
    layers = [module for module in model.modules() if isinstance(module, torch.nn.Conv2d | torch.nn.Linear)]
    hooks = {layer: layer.register_forward_hook(rescale) for layer in layers}
    nobody = torch.zeros(len(images), 0, dtype=torch.int64)
    with torch.no_grad():
        model.train()(torch.from_numpy(images), Targets(torch.zeros(len(images), 0, 4), nobody, nobody))
    return model.eval()
