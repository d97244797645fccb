"""torchvision's backbones with a feature pyramid (Lin et al. 2017).

weights: imagenet (downloaded), none, or coco, which are loaded into the complete detector later. Pretrained batch
norms are frozen.
"""

from __future__ import annotations

from functools import partial

from torch import nn
from torchvision.models import MobileNet_V3_Large_Weights, ResNet50_Weights, mobilenet_v3_large, resnet50
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from detector.models.normalization import FrozenBatchNorm
from detector.models.pretrained import load_pretrained
from detector.models.private_imports import MOBILENET_FPN_EXTRACTOR, RESNET_FPN_EXTRACTOR

RESNET_EPS, MOBILENET_EPS = 1e-5, 1e-3  # epsilon of the batch norms


def build_resnet50_fpn(weights: str, stages: list[int], top: ExtraFPNBlock) -> BackboneWithFPN:
    """stages: ResNet stages 1..4 (strides 4, 8, 16, 32) used by the pyramid; top: adds coarser feature maps."""
    source = ResNet50_Weights.IMAGENET1K_V1 if weights == "imagenet" else None
    norm = partial(_choose_norm(weights), eps=RESNET_EPS)
    network = load_pretrained(lambda: resnet50(weights=source, norm_layer=norm), source)
    # As in torchvision's references, the first layers of a pretrained backbone are frozen.
    trainable_layers = 5 if weights == "none" else 3
    backbone: BackboneWithFPN = RESNET_FPN_EXTRACTOR.load()(network, trainable_layers, stages, top)
    return backbone


def build_mobilenet_fpn(weights: str) -> BackboneWithFPN:
    """Two feature maps of stride 32 and one of stride 64, as in torchvision's Faster R-CNN."""
    source = MobileNet_V3_Large_Weights.IMAGENET1K_V1 if weights == "imagenet" else None
    norm = partial(_choose_norm(weights), eps=MOBILENET_EPS, momentum=0.01)
    network = load_pretrained(lambda: mobilenet_v3_large(weights=source, norm_layer=norm), source)
    backbone: BackboneWithFPN = MOBILENET_FPN_EXTRACTOR.load()(network, True, 6)
    return backbone


def _choose_norm(weights: str) -> type[nn.BatchNorm2d]:
    return nn.BatchNorm2d if weights == "none" else FrozenBatchNorm
