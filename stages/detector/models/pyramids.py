"""torchvision's backbones with a feature pyramid (Lin et al. 2017).

`weights` is imagenet (downloaded), none, or coco: these are loaded into the finished detector. Pretrained
batch norms stay as they are.
"""

from __future__ import annotations

from functools import partial

from torch import nn
from torchvision.models import MobileNet_V3_Large_Weights, ResNet50_Weights, mobilenet_v3_large, resnet50
from torchvision.models.detection.backbone_utils import BackboneWithFPN, _mobilenet_extractor, _resnet_fpn_extractor
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from detector.models.normalization import FrozenBatchNorm
from detector.models.pretrained import load_pretrained

RESNET_EPS = 1e-5  # of the batch norms
MOBILENET_EPS = 1e-3


def resnet50_pyramid(weights: str, stages: list[int], top: ExtraFPNBlock) -> BackboneWithFPN:
    """stages: of 1..4 (strides 4, 8, 16, 32) that the pyramid is built on; top: what makes coarser maps still."""
    source = ResNet50_Weights.IMAGENET1K_V1 if weights == "imagenet" else None
    norm = partial(_norm(weights), eps=RESNET_EPS)
    network = load_pretrained(lambda: resnet50(weights=source, norm_layer=norm))
    # As in torchvision's references, the first layers of a pretrained one do not learn.
    return _resnet_fpn_extractor(network, 5 if weights == "none" else 3, stages, top)


def mobilenet_pyramid(weights: str) -> BackboneWithFPN:
    """Two maps of stride 32 and one of 64, as torchvision's Faster R-CNN has them."""
    source = MobileNet_V3_Large_Weights.IMAGENET1K_V1 if weights == "imagenet" else None
    norm = partial(_norm(weights), eps=MOBILENET_EPS, momentum=0.01)
    network = load_pretrained(lambda: mobilenet_v3_large(weights=source, norm_layer=norm))
    return _mobilenet_extractor(network, True, 6)


def _norm(weights: str) -> type[nn.BatchNorm2d]:
    return nn.BatchNorm2d if weights == "none" else FrozenBatchNorm
