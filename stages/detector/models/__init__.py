"""The detectors: one file each, one line in the table each."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn

from detector.errors import UserError
from detector.models import faster_rcnn, simple, ssdlite
from detector.models.normalization import PixelStatistics
from detector.models.postprocess import Postprocess
from detector.models.recipe import Recipe


class Model(NamedTuple):
    """build(classes, statistics, postprocess, weights) -> module; weights: what it accepts, best first."""

    build: Callable[[int, PixelStatistics, Postprocess, str], nn.Module]
    recipe: Recipe
    weights: tuple[str, ...]


MODELS: dict[str, Model] = {
    "simple": Model(simple.build, simple.RECIPE, ("none",)),
    "ssdlite": Model(ssdlite.build, ssdlite.RECIPE, ("imagenet", "none")),
    "faster_rcnn": Model(faster_rcnn.build, faster_rcnn.RECIPE, ("imagenet", "none")),
}


def load_model(name: str, weights: dict[str, Tensor], classes: int, postprocess: Postprocess) -> nn.Module:
    """The trained model in evaluation mode. Raises UserError when the weights are of another model."""
    if name not in MODELS:
        raise UserError(f"the checkpoint is of model {name!r}; known are {', '.join(MODELS)}")
    # The statistics are among the weights; these only make room for them.
    model = MODELS[name].build(classes, PixelStatistics((0, 0, 0), (1, 1, 1)), postprocess, "none")
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(f"the checkpoint does not fit {name} with {classes} classes; train again.\n{error}") from None
    return model.eval()
