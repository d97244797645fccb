"""Training recipes, which `auto` in params.yaml refers to; each model's file defines its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Recipe:
    """Training settings, under the names that params.yaml uses and explains.

    image_size: longer side of the input in pixels, for objects of 1/16 of it. epochs: for 256 training images. lr:
    for `batch_size` * `accumulate_steps` images per step; scaled for other numbers. lr_steps: epochs after
    which multistep multiplies the learning rate by 0.1, as fractions of all epochs. min_lr_ratio: final learning
    rate of cosine as a fraction of `lr`. class_loss_weight, box_loss_weight: factors of these losses. flip to
    rotation: see `augmentation.Augmenter`. repeat_factor_threshold: see `compute_repeat_factors`. freeze: names of
    modules and parameters. monitor: what on val decides which epoch is the best. 0 disables grad_clip_norm,
    state_loss_weight (no state head), ema_decay, repeat_factor_threshold and patience.
    """

    image_size: int
    epochs: int
    batch_size: int
    optimizer: Literal["sgd", "adamw"]
    lr: float
    weight_decay: float
    schedule: Literal["multistep", "cosine", "plateau", "constant"]
    warmup_iterations: int
    lr_steps: tuple[float, ...] = (16 / 26, 22 / 26)
    min_lr_ratio: float = 0.01
    grad_clip_norm: float = 10.0
    backbone_lr_factor: float = 1.0
    class_loss_weight: float = 1.0
    box_loss_weight: float = 1.0
    state_loss_weight: float = 0.5
    ema_decay: float = 0.998
    flip: float = 0.5
    scale: tuple[float, float] = (0.7, 1.5)
    color_jitter: float = 0.2
    mosaic: float = 0.0
    mixup: float = 0.0
    crop: float = 0.0
    rotation: float = 0.0
    repeat_factor_threshold: float = 0.0
    freeze: tuple[str, ...] = ()
    accumulate_steps: int = 1
    patience: int = 0
    monitor: Literal["AP", "loss"] = "AP"


# The recipe of torchvision's reference detectors with SGD and Nesterov momentum: warm-up from lr / 1000, two drops of
# the learning rate, and a lower one for the backbone.
REFERENCE = Recipe(
    image_size=320,
    epochs=26,
    batch_size=16,
    optimizer="sgd",
    lr=0.01,
    weight_decay=1e-4,
    schedule="multistep",
    warmup_iterations=500,
    backbone_lr_factor=0.1,
)

# For the anchor-free dense head on small datasets: many small steps and strong augmentation.
DENSE = Recipe(
    image_size=320,
    epochs=75,
    batch_size=8,
    optimizer="adamw",
    lr=2e-3,
    weight_decay=0.02,
    schedule="cosine",
    warmup_iterations=100,
    state_loss_weight=1.0,
    mosaic=0.5,
)
