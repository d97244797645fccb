"""The detectors, one file and one line of the table each: used by train, evaluate and export."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

from detector.core.errors import UserError
from detector.models import (
    detr,
    effnet,
    effnet_lite,
    faster_rcnn,
    faster_rcnn_resnet50,
    fcos,
    retinanet,
    rtdetr,
    simple,
    ssdlite,
)
from detector.models.normalization import IMAGENET, PixelStatistics
from detector.models.postprocess import Postprocess
from detector.models.recipe import Recipe
from detector.models.state_head import States


class Model(NamedTuple):
    """build(classes, states, statistics, postprocess, weights) -> module; weights: what it accepts, best first.

    statistics: how pretrained weights want pixels normalized; from scratch it is the dataset's own.
    coco_statistics: where those of COCO want it otherwise.
    """

    build: Callable[[int, States, PixelStatistics, Postprocess, str], nn.Module]
    recipe: Recipe
    weights: tuple[str, ...]
    statistics: PixelStatistics = IMAGENET
    coco_statistics: PixelStatistics = IMAGENET

    def statistics_for(self, weights: str) -> PixelStatistics:
        """How these pretrained weights want pixels normalized."""
        return self.coco_statistics if weights == "coco" else self.statistics


ALL = ("coco", "imagenet", "none")

MODELS: dict[str, Model] = {
    "simple": Model(simple.build, simple.RECIPE, ("none",)),
    "effnet_lite": Model(effnet_lite.build, effnet_lite.RECIPE, ("imagenet",), effnet_lite.STATISTICS),
    "effnet": Model(effnet.build, effnet.RECIPE, ("imagenet", "none")),
    "ssdlite": Model(ssdlite.build, ssdlite.RECIPE, ALL, coco_statistics=ssdlite.COCO_STATISTICS),
    "retinanet": Model(retinanet.build, retinanet.RECIPE, ALL),
    "fcos": Model(fcos.build, fcos.RECIPE, ALL),
    "faster_rcnn": Model(faster_rcnn.build, faster_rcnn.RECIPE, ALL),
    "faster_rcnn_resnet50": Model(faster_rcnn_resnet50.build, faster_rcnn_resnet50.RECIPE, ALL),
    "detr": Model(detr.build, detr.RECIPE, ALL),
    "rtdetr": Model(rtdetr.build, rtdetr.RECIPE, ("coco", "none"), coco_statistics=rtdetr.STATISTICS),
}


def load_model(name: str, weights: dict[str, Tensor], classes: int, states: int, postprocess: Postprocess) -> nn.Module:
    """The trained model in evaluation mode; states: how many its head tells apart, 0 without one.

    Raises UserError when the weights are of another model.
    """
    if name not in MODELS:
        raise UserError(f"the checkpoint is of model {name!r}; known are {', '.join(MODELS)}")
    # The statistics and what is known of the states are among the weights; these only make room for them.
    room = States((True,) * states, (1.0,) * states)
    model = MODELS[name].build(classes, room, PixelStatistics((0, 0, 0), (1, 1, 1)), postprocess, "none")
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(
            f"the checkpoint does not fit {name} with {classes} classes and {states} states; train again.\n{error}"
        ) from None
    return model.eval()
