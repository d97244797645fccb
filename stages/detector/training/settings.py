"""`train:` of params.yaml: what the user wrote, and what it resolves to for a model."""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Annotated, Any, Literal

from pydantic import Field

from detector.core.errors import UserError
from detector.core.params import Section
from detector.models.recipe import Recipe

Auto = Literal["auto"]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class TrainParams(Section):
    """`train:` of params.yaml, where every key is explained; `auto` takes the model's recipe."""

    model: str
    weights: str
    size: Auto | Annotated[int, Field(gt=0, multiple_of=32)] | tuple[int, int]
    epochs: Auto | Annotated[int, Field(gt=0)]
    patience: Auto | Annotated[int, Field(ge=0)]
    batch_size: Auto | Annotated[int, Field(gt=0)]
    accumulate: Auto | Annotated[int, Field(gt=0)]
    optimizer: Auto | Literal["sgd", "adamw"]
    lr: Auto | Positive
    weight_decay: Auto | NotNegative
    schedule: Auto | Literal["multistep", "cosine", "plateau", "constant"]
    warmup_iterations: Auto | Annotated[int, Field(ge=0)]
    lr_steps: Auto | tuple[Annotated[float, Field(gt=0, lt=1)], ...]
    min_lr: Auto | Annotated[float, Field(ge=0, le=1)]
    clip_norm: Auto | NotNegative
    backbone_lr_factor: Auto | NotNegative
    state_weight: Auto | NotNegative
    ema_decay: Auto | Annotated[float, Field(ge=0, lt=1)]
    flip: Auto | Share
    zoom: Auto | tuple[Positive, Positive]
    distortion: Auto | Annotated[float, Field(ge=0, lt=1)]
    mosaic: Auto | Share
    mixup: Auto | Share
    crop: Auto | Share
    rotation: Auto | Annotated[float, Field(ge=0, le=180)]
    balance: Auto | Share
    freeze: Auto | tuple[str, ...]
    precision: Literal["auto", "fp32", "bf16", "fp16"]
    channels_last: bool
    compile: bool
    processes: int = Field(gt=0)
    mirrors: tuple[Literal["tensorboard", "wandb", "mlflow"], ...]
    seed: int = Field(ge=0, lt=2**32)
    threads: int = Field(ge=0)
    workers: int = Field(ge=0)
    cache_gb: float = Field(ge=0)
    disk_cache_gb: float = Field(ge=0)


def resolve(params: TrainParams, recipe: Recipe, pretrained: bool) -> Recipe:
    """The recipe with everything that params set themselves.

    The slower learning rate of a backbone is for pretrained ones; from scratch it learns like the rest. A
    learning rate from the recipe is scaled linearly with the images a step, of all processes (Goyal et al.
    2017); one that params give is taken as it is. A size of two numbers keeps its longer side here.
    """
    given: dict[str, Any] = {
        field.name: getattr(params, field.name) for field in fields(Recipe) if getattr(params, field.name) != "auto"
    }
    if isinstance(params.size, tuple):
        if any(side <= 0 or side % 32 for side in params.size):
            raise UserError(f"params.yaml: `train.size` is {list(params.size)}; both sides must be multiples of 32")
        given["size"] = max(params.size)
    images = given.get("batch_size", recipe.batch_size) * given.get("accumulate", recipe.accumulate) * params.processes
    usual = recipe.batch_size * recipe.accumulate
    if "lr" not in given and images != usual:
        given["lr"] = recipe.lr * images / usual
    if given.get("optimizer", recipe.optimizer) != recipe.optimizer and "lr" not in given:
        raise UserError(
            f"params.yaml: `train.optimizer` is {given['optimizer']}, but the recipe's learning rate {recipe.lr:g} is "
            f"for {recipe.optimizer}: set `train.lr` too"
        )
    scratch = {} if pretrained else {"backbone_lr_factor": 1.0}
    return Recipe(**{**asdict(recipe), **scratch, **given})
