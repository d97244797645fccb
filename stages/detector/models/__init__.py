"""The detectors: one file and one entry of MODELS per model; used by train, evaluate and export."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from torch import Tensor, nn

from detector.core.errors import UserError
from detector.models import (
    effnet,
    effnet_lite,
    faster_rcnn,
    faster_rcnn_resnet50,
    fcos,
    query_detector,
    query_weights,
    retinanet,
    simple,
    ssdlite,
)
from detector.models.class_rows import TrainedRows
from detector.models.normalization import IMAGENET_STATISTICS, PixelStatistics
from detector.models.postprocess import Postprocess
from detector.models.query_architectures import ARCHITECTURES
from detector.models.recipe import Recipe
from detector.models.state_head import StateConfig

CELL = 16  # pixels


class ModelSpec(NamedTuple):
    """One entry of MODELS: how a model is built and trained, and which pretrained weights it has.

    build(classes, states, statistics, postprocess, weights) -> module. recipe: its training settings. weights: the
    accepted values of `train.weights`, best first. statistics, coco_statistics: pixel normalization that ImageNet and
    COCO weights expect; a model trained from scratch uses the statistics of its dataset. size_multiple: of both sides
    of the input, in pixels. min_cells: of CELL x CELL pixels, in the input at least. max_class_loss_weight: with few
    objects per class. smallest_anchor: as a fraction of the longer side of the input, for a model whose anchors grow
    with the input; 0 for others. load_coco_rows: the rows per class of the COCO weights' head.
    """

    build: Callable[[int, StateConfig, PixelStatistics, Postprocess, str], nn.Module]
    recipe: Recipe
    weights: tuple[str, ...]
    statistics: PixelStatistics = IMAGENET_STATISTICS
    coco_statistics: PixelStatistics = IMAGENET_STATISTICS
    size_multiple: int = 32
    min_cells: int = 0
    max_class_loss_weight: float = 1.0
    smallest_anchor: float = 0.0
    load_coco_rows: Callable[[], TrainedRows] | None = None

    def choose_statistics(self, weights: str) -> PixelStatistics:
        """The pixel normalization that these pretrained weights expect."""
        return self.coco_statistics if weights == "coco" else self.statistics


ALL_WEIGHTS = ("coco", "imagenet", "none")
DENSE_MAX_CLASS_LOSS_WEIGHT = 3.0  # of the anchor-free dense head; more has not been tried

MODELS: dict[str, ModelSpec] = {
    "simple": ModelSpec(
        simple.build_simple, simple.RECIPE, ("none",), max_class_loss_weight=DENSE_MAX_CLASS_LOSS_WEIGHT
    ),
    "effnet_lite": ModelSpec(
        effnet_lite.build_effnet_lite,
        effnet_lite.RECIPE,
        ("imagenet",),
        effnet_lite.STATISTICS,
        max_class_loss_weight=DENSE_MAX_CLASS_LOSS_WEIGHT,
    ),
    "effnet": ModelSpec(
        effnet.build_effnet,
        effnet.RECIPE,
        ("imagenet", "none"),
        max_class_loss_weight=DENSE_MAX_CLASS_LOSS_WEIGHT,
    ),
    "ssdlite": ModelSpec(
        ssdlite.build_ssdlite,
        ssdlite.RECIPE,
        ALL_WEIGHTS,
        coco_statistics=ssdlite.COCO_STATISTICS,
        smallest_anchor=ssdlite.ANCHOR_SIZES[0],
        load_coco_rows=ssdlite.load_coco_rows,
    ),
    "retinanet": ModelSpec(
        retinanet.build_retinanet, retinanet.RECIPE, ALL_WEIGHTS, load_coco_rows=retinanet.load_coco_rows
    ),
    "fcos": ModelSpec(fcos.build_fcos, fcos.RECIPE, ALL_WEIGHTS, load_coco_rows=fcos.load_coco_rows),
    "faster_rcnn": ModelSpec(
        faster_rcnn.build_faster_rcnn, faster_rcnn.RECIPE, ALL_WEIGHTS, load_coco_rows=faster_rcnn.load_coco_rows
    ),
    "faster_rcnn_resnet50": ModelSpec(
        faster_rcnn_resnet50.build_faster_rcnn_resnet50,
        faster_rcnn_resnet50.RECIPE,
        ALL_WEIGHTS,
        load_coco_rows=faster_rcnn_resnet50.load_coco_rows,
    ),
    **{
        name: ModelSpec(
            partial(query_detector.build_query_detector, name),
            architecture.recipe,
            ("coco", "none"),
            coco_statistics=architecture.coco_statistics,
            size_multiple=architecture.size_multiple,
            min_cells=architecture.min_cells,
            load_coco_rows=partial(query_weights.load_coco_rows, name),
        )
        for name, architecture in ARCHITECTURES.items()
    },
}


def load_model(name: str, weights: dict[str, Tensor], classes: int, states: int, postprocess: Postprocess) -> nn.Module:
    """Load the trained model in evaluation mode; states: number of states, 0 without a state head.

    Raises UserError when the weights belong to another model.
    """
    if name not in MODELS:
        raise UserError(f"the checkpoint belongs to the unknown model {name!r}; known models: {', '.join(MODELS)}")
    # Placeholders: pixel statistics and state settings are buffers, which the weights overwrite.
    state_config = StateConfig((True,) * states, (1.0,) * states)
    model = MODELS[name].build(classes, state_config, PixelStatistics((0, 0, 0), (1, 1, 1)), postprocess, "none")
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise UserError(
            f"the checkpoint does not match {name} with {classes} classes and {states} states; train it again.\n{error}"
        ) from None
    return model.eval()
