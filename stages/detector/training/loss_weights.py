"""The weights of class and box losses, `train.class_loss_weight` and `train.box_loss_weight`.

They multiply what a model's recipe has weighed already, so 1 leaves a loss as it is. The weight of the state loss
belongs to the state head: `train.state_loss_weight`, without which there is no such head.
"""

from __future__ import annotations

from detector.models.recipe import Recipe

CLASS_LOSSES = ("loss_cls", "loss_classifier", "loss_objectness", "loss_ce", "loss_vfl", "loss_mal")
BOX_LOSSES = (
    *("loss_bbox", "loss_box_reg", "loss_centerness", "loss_ciou", "loss_dfl"),
    *("loss_ddf", "loss_fgl", "loss_giou", "loss_l1", "loss_rpn_box_reg", "loss_smooth_l1"),
)


def get_loss_weights(recipe: Recipe) -> dict[str, float]:
    """Return the weight of each class and box loss by its name; other losses have none."""
    return {
        **dict.fromkeys(CLASS_LOSSES, recipe.class_loss_weight),
        **dict.fromkeys(BOX_LOSSES, recipe.box_loss_weight),
    }
