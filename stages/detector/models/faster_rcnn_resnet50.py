"""`faster_rcnn_resnet50`: Faster R-CNN with a ResNet-50 FPN (He et al. 2016), from torchvision's parts."""

from __future__ import annotations

from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from detector.models.class_rows import TrainedRows
from detector.models.normalization import PixelStatistics
from detector.models.postprocess import Postprocess
from detector.models.pyramids import RESNET_EPS, build_resnet50_fpn
from detector.models.recipe import Recipe
from detector.models.state_head import StateConfig
from detector.models.two_stage import ProposalConfig, TwoStage, load_coco_weights, load_predictor_rows

RECIPE = Recipe(
    image_size=800,
    epochs=20,
    batch_size=2,
    optimizer="adamw",
    lr=1e-4,
    weight_decay=1e-4,
    schedule="plateau",
    warmup_iterations=500,
)

COCO_WEIGHTS = FasterRCNN_ResNet50_FPN_Weights.COCO_V1
PROPOSALS = ProposalConfig(((32,), (64,), (128,), (256,), (512,)), (4, 8, 16, 32))


def build_faster_rcnn_resnet50(
    classes: int, states: StateConfig, statistics: PixelStatistics, postprocess: Postprocess, weights: str
) -> TwoStage:
    """weights: coco or imagenet (downloaded), or none."""
    backbone_with_fpn = build_resnet50_fpn(weights, [1, 2, 3, 4], LastLevelMaxPool())
    model = TwoStage(
        backbone_with_fpn, PROPOSALS, classes=classes, states=states, statistics=statistics, postprocess=postprocess
    )
    if weights == "coco":
        load_coco_weights(model, COCO_WEIGHTS, 0.0, RESNET_EPS)
    return model


def load_coco_rows() -> TrainedRows:
    """The rows per class of the COCO weights."""
    return load_predictor_rows(COCO_WEIGHTS)
