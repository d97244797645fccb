"""`faster_rcnn`: Faster R-CNN with a MobileNetV3-Large FPN, from torchvision's parts."""

from __future__ import annotations

from dataclasses import replace

from torchvision.models.detection import FasterRCNN_MobileNet_V3_Large_320_FPN_Weights

from detector.models.class_rows import TrainedRows
from detector.models.normalization import PixelStatistics
from detector.models.postprocess import Postprocess
from detector.models.pyramids import MOBILENET_EPS, build_mobilenet_fpn
from detector.models.recipe import REFERENCE
from detector.models.state_head import StateConfig
from detector.models.two_stage import ProposalConfig, TwoStage, load_coco_weights, load_predictor_rows

# The COCO weights were trained with a shorter side of 320 pixels, which is about this longer side for photographs.
RECIPE = replace(REFERENCE, image_size=416)
COCO_WEIGHTS = FasterRCNN_MobileNet_V3_Large_320_FPN_Weights.COCO_V1

# The first two feature maps have stride 32; boxes are pooled from the first.
PROPOSALS = ProposalConfig(((32, 64, 128, 256, 512),) * 3, (32,), top_n=150, min_score=0.05)


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
        load_coco_weights(model, COCO_WEIGHTS, 1e-5, MOBILENET_EPS)
    return model


def load_coco_rows() -> TrainedRows:
    """The rows per class of the COCO weights."""
    return load_predictor_rows(COCO_WEIGHTS)
