"""The `train:` section of params.yaml, and its resolution into a model's recipe."""

from __future__ import annotations

import math
from dataclasses import asdict, fields
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from detector.core.errors import UserError
from detector.core.params import Section

if TYPE_CHECKING:  # every stage loads this module to check params.yaml, and `detector.models` imports torch
    from detector.models.recipe import Recipe

Auto = Literal["auto"]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
ModelName = Literal[  # the keys of `models.MODELS`, which would import torch
    "simple", "effnet_lite", "effnet", "ssdlite", "retinanet", "fcos", "faster_rcnn", "faster_rcnn_resnet50",
    "detr", "deformable_detr", "rtdetr", "dfine_n", "dfine_s", "dfine_m", "rfdetr_nano", "rfdetr_small",
    "rfdetr_medium", "deimv2_n", "lwdetr",
]  # fmt: skip


class TrainParams(Section):
    """The `train:` section of params.yaml, which explains each key.

    `auto` takes the value of the model's recipe; `auto_settings` fits some of them to the training set.
    """

    model: ModelName
    weights: str
    image_size: Auto | Annotated[int, Field(gt=0, multiple_of=32)] | tuple[int, int]
    epochs: Auto | Annotated[int, Field(gt=0)]
    monitor: Literal["AP", "loss"]
    patience: Auto | Annotated[int, Field(ge=0)]
    keep_every: Annotated[int, Field(ge=0)]
    batch_size: Auto | Annotated[int, Field(gt=0)]
    accumulate_steps: Auto | Annotated[int, Field(gt=0)]
    optimizer: Auto | Literal["sgd", "adamw"]
    lr: Auto | Positive
    weight_decay: Auto | NonNegative
    schedule: Auto | Literal["multistep", "cosine", "plateau", "constant"]
    warmup_iterations: Auto | Annotated[int, Field(ge=0)]
    lr_steps: Auto | tuple[Annotated[float, Field(gt=0, lt=1)], ...]
    min_lr_ratio: Auto | Annotated[float, Field(ge=0, le=1)]
    grad_clip_norm: Auto | NonNegative
    backbone_lr_factor: Auto | NonNegative
    class_loss_weight: Auto | NonNegative
    box_loss_weight: NonNegative
    state_loss_weight: Auto | NonNegative
    ema_decay: Auto | Annotated[float, Field(ge=0, lt=1)]
    flip: Auto | Fraction
    scale: Auto | tuple[Positive, Positive]
    color_jitter: Auto | Annotated[float, Field(ge=0, lt=1)]
    mosaic: Auto | Fraction
    mixup: Auto | Fraction
    crop: Auto | Fraction
    rotation: Auto | Annotated[float, Field(ge=0, le=180)]
    repeat_factor_threshold: Auto | Fraction
    freeze: Auto | tuple[str, ...]
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    channels_last: bool
    compile: bool
    processes: int = Field(gt=0)
    seed: int = Field(ge=0, lt=2**32)
    threads: int = Field(ge=0)


def resolve_recipe(params: TrainParams, recipe: Recipe, pretrained: bool) -> Recipe:
    """Return the recipe with all values that `params` override.

    The lower learning rate of a backbone applies only if it is pretrained. The recipe's learning rate is scaled with
    the images per step of all processes, linearly for SGD (Goyal et al. 2017) and by the square root for AdamW (Malladi
    et al. 2022); one set in params is used as is. An image size of two numbers is resolved to its longer side.
    """
    from detector.models.recipe import Recipe

    given: dict[str, Any] = {
        field.name: getattr(params, field.name) for field in fields(Recipe) if getattr(params, field.name) != "auto"
    }
    if isinstance(params.image_size, tuple):
        if any(side <= 0 or side % 32 for side in params.image_size):
            raise UserError(
                f"params.yaml: `train.image_size` is {list(params.image_size)}; both sides must be multiples of 32"
            )
        given["image_size"] = max(params.image_size)
    batch_size = given.get("batch_size", recipe.batch_size)
    accumulate_steps = given.get("accumulate_steps", recipe.accumulate_steps)
    images, recipe_images = (
        batch_size * accumulate_steps * params.processes,
        recipe.batch_size * recipe.accumulate_steps,
    )
    if "lr" not in given and images != recipe_images:
        ratio = images / recipe_images
        given["lr"] = recipe.lr * (ratio if recipe.optimizer == "sgd" else math.sqrt(ratio))
    if given.get("optimizer", recipe.optimizer) != recipe.optimizer and "lr" not in given:
        raise UserError(
            f"params.yaml: `train.optimizer` is {given['optimizer']}, but the recipe's learning rate {recipe.lr:g} is "
            f"meant for {recipe.optimizer}: set `train.lr` too"
        )
    from_scratch = {} if pretrained else {"backbone_lr_factor": 1.0}
    return Recipe(**{**asdict(recipe), **from_scratch, **given})
