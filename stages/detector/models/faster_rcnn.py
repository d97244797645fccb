"""`faster_rcnn`: Faster R-CNN with a MobileNetV3-Large FPN, from torchvision's parts."""

from __future__ import annotations

from torchvision.models.detection import FasterRCNN_MobileNet_V3_Large_FPN_Weights

from detector.models.normalization import PixelStatistics
from detector.models.postprocess import Postprocess
from detector.models.pyramids import MOBILENET_EPS, build_mobilenet_fpn
from detector.models.recipe import REFERENCE
from detector.models.state_head import StateConfig
from detector.models.two_stage import ProposalConfig, TwoStage, load_coco_weights

RECIPE = REFERENCE

# The first two feature maps have stride 32; boxes are pooled from the first.
PROPOSALS = ProposalConfig(((32, 64, 128, 256, 512),) * 3, (32,), pre_nms_top_n=600, post_nms_top_n=200)


def build_faster_rcnn(
    classes: int, states: StateConfig, statistics: PixelStatistics, postprocess: Postprocess, weights: str
) -> TwoStage:
    """weights: coco or imagenet (downloaded), or none."""
    model = TwoStage(
        build_mobilenet_fpn(weights),
        PROPOSALS,
        classes=classes,
        states=states,
        statistics=statistics,
        postprocess=postprocess,
    )
    if weights == "coco":
        # torchvision trained them with a different epsilon than this backbone uses.
        load_coco_weights(model, FasterRCNN_MobileNet_V3_Large_FPN_Weights.COCO_V1, 1e-5, MOBILENET_EPS)
    return model
