"""`faster_rcnn`: Faster R-CNN with a MobileNetV3-Large FPN, torchvision's parts."""

from __future__ import annotations

from torchvision.models.detection import FasterRCNN_MobileNet_V3_Large_FPN_Weights

from detector.models.normalization import PixelStatistics
from detector.models.postprocess import Postprocess
from detector.models.pyramids import MOBILENET_EPS, mobilenet_pyramid
from detector.models.recipe import REFERENCE
from detector.models.state_head import States
from detector.models.two_stage import Layout, TwoStage, load_coco

RECIPE = REFERENCE

# Both maps of this pyramid have stride 32, and boxes are pooled from the first.
LAYOUT = Layout(((32, 64, 128, 256, 512),) * 3, (32,), candidates=600, proposals=200)


def build(
    classes: int, states: States, statistics: PixelStatistics, postprocess: Postprocess, weights: str
) -> TwoStage:
    """weights: coco or imagenet (downloaded), or none."""
    model = TwoStage(mobilenet_pyramid(weights), LAYOUT, classes, states, statistics, postprocess)
    if weights == "coco":
        # torchvision trained them with another epsilon than the one that it gives to this backbone.
        load_coco(model, FasterRCNN_MobileNet_V3_Large_FPN_Weights.COCO_V1, 1e-5, MOBILENET_EPS)
    return model
