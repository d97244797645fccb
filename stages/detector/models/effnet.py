"""`effnet`: EfficientNet-B0 (Tan and Le 2019), torchvision's, with a PAFPN and an anchor-free head."""

from __future__ import annotations

from torch import Tensor, nn
from torchvision.models import EfficientNet_B0_Weights, efficientnet_b0

from detector.models.dense_detector import DenseDetector
from detector.models.dense_head import DenseHead
from detector.models.normalization import FrozenBatchNorm, Normalize, PixelStatistics
from detector.models.pafpn import PAFPN
from detector.models.postprocess import Postprocess
from detector.models.pretrained import load_pretrained
from detector.models.recipe import REFERENCE
from detector.models.state_head import StateConfig

RECIPE = REFERENCE

STRIDES = (8, 16, 32)
WIDTHS = (40, 112, 320)  # channels of the feature maps at STRIDES, the last before each downsampling
NECK = 64  # channels of the neck and the head


class EffNetBackbone(nn.Module):
    """torchvision's network without its classifier; pretrained batch norms are frozen."""

    def __init__(self, weights: str) -> None:
        super().__init__()
        source = EfficientNet_B0_Weights.IMAGENET1K_V1 if weights == "imagenet" else None
        norm = nn.BatchNorm2d if weights == "none" else FrozenBatchNorm
        network = load_pretrained(lambda: efficientnet_b0(weights=source, norm_layer=norm), source)
        self.blocks = network.features[:8]

    def forward(self, x: Tensor) -> list[Tensor]:
        """Normalized images -> feature maps at STRIDES."""
        maps = []
        for index, block in enumerate(self.blocks):
            x = block(x)
            if index in (3, 5, 7):
                maps.append(x)
        return maps


def build_effnet(
    classes: int, states: StateConfig, statistics: PixelStatistics, postprocess: Postprocess, weights: str
) -> DenseDetector:
    """weights: imagenet (downloaded) or none."""
    head = DenseHead(NECK, classes, STRIDES, states)
    return DenseDetector(Normalize(statistics), EffNetBackbone(weights), PAFPN(WIDTHS, NECK), head, postprocess)
