"""The detectors: one file each, one line in the table each."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

from detector.errors import UserError
from detector.models import detr, effnet_lite, faster_rcnn, rtdetr, simple, ssdlite
from detector.models.normalization import IMAGENET, PixelStatistics
from detector.models.postprocess import Postprocess
from detector.models.recipe import Recipe
from detector.models.state_head import States


class Model(NamedTuple):
    """build(classes, states, statistics, postprocess, weights) -> module; weights: what it accepts, best first.

    statistics: how pretrained weights want pixels normalized; from scratch it is the dataset's own.
    """

    build: Callable[[int, States, PixelStatistics, Postprocess, str], nn.Module]
    recipe: Recipe
    weights: tuple[str, ...]
    statistics: PixelStatistics = IMAGENET


MODELS: dict[str, Model] = {
    "simple": Model(simple.build, simple.RECIPE, ("none",)),
    "effnet_lite": Model(effnet_lite.build, effnet_lite.RECIPE, ("imagenet",), effnet_lite.STATISTICS),
    "ssdlite": Model(ssdlite.build, ssdlite.RECIPE, ("imagenet", "none")),
    "faster_rcnn": Model(faster_rcnn.build, faster_rcnn.RECIPE, ("imagenet", "none")),
    "detr": Model(detr.build, detr.RECIPE, ("coco", "imagenet", "none")),
    "rtdetr": Model(rtdetr.build, rtdetr.RECIPE, ("coco", "none"), rtdetr.STATISTICS),
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
