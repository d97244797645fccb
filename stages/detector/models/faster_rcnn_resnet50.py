"""`faster_rcnn_resnet50`: Faster R-CNN with a ResNet-50 FPN (He et al. 2016), torchvision's parts."""

from __future__ import annotations

from torchvision.models.detection import FasterRCNN_ResNet50_FPN_Weights
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from detector.models.normalization import PixelStatistics
from detector.models.postprocess import Postprocess
from detector.models.pyramids import RESNET_EPS, resnet50_pyramid
from detector.models.recipe import Recipe
from detector.models.state_head import States
from detector.models.two_stage import Layout, TwoStage, load_coco

RECIPE = Recipe(
    size=640,
    epochs=20,
    batch_size=2,
    optimizer="adamw",
    lr=1e-4,
    weight_decay=1e-4,
    schedule="plateau",
    warmup_iterations=500,
)

LAYOUT = Layout(((32,), (64,), (128,), (256,), (512,)), (4, 8, 16, 32), candidates=1000, proposals=300)


def build(
    classes: int, states: States, statistics: PixelStatistics, postprocess: Postprocess, weights: str
) -> TwoStage:
    """weights: coco or imagenet (downloaded), or none."""
    with_pyramid = resnet50_pyramid(weights, [1, 2, 3, 4], LastLevelMaxPool())
    model = TwoStage(with_pyramid, LAYOUT, classes, states, statistics, postprocess)
    if weights == "coco":
        load_coco(model, FasterRCNN_ResNet50_FPN_Weights.COCO_V1, 0.0, RESNET_EPS)
    return model
