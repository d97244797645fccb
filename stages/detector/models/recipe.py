"""How a model is trained when params.yaml says `auto`: each model's file holds its own recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Recipe:
    """Training settings; params.yaml has the same keys.

    size: longest side in pixels of the input. lr: for `batch_size` * `accumulate` images a step, scaled
    linearly to others. lr_steps: epochs after which multistep multiplies the learning rate by 0.1, as shares of all
    epochs. min_lr: where cosine ends, as a share of `lr`. clip_norm: of the gradient, 0 is off.
    state_weight: of the state head's loss, 0 is no head. ema_decay: of the averaged weights, 0 is off.
    flip, zoom, distortion, mosaic, mixup, crop, rotation: see `augmentation.Augment`. balance: images with a class
    that is in a smaller share of the images than this are repeated, 0 is off. accumulate: batches whose
    gradients make one step. patience: epochs without a better AP before training ends, 0 is off. freeze:
    beginnings of the names of parameters that do not learn.
    """

    size: int
    epochs: int
    batch_size: int
    optimizer: Literal["sgd", "adamw"]
    lr: float
    weight_decay: float
    schedule: Literal["multistep", "cosine", "plateau", "constant"]
    warmup_iterations: int
    lr_steps: tuple[float, ...] = (16 / 26, 22 / 26)
    min_lr: float = 0.01
    clip_norm: float = 10.0
    backbone_lr_factor: float = 1.0
    state_weight: float = 0.5
    ema_decay: float = 0.998
    flip: float = 0.5
    zoom: tuple[float, float] = (0.7, 1.5)
    distortion: float = 0.2
    mosaic: float = 0.0
    mixup: float = 0.0
    crop: float = 0.0
    rotation: float = 0.0
    balance: float = 0.0
    freeze: tuple[str, ...] = ()
    accumulate: int = 1
    patience: int = 0


# The recipe of torchvision's reference detectors as the JSONL trainer used it: SGD with Nesterov
# momentum, warm-up from a thousandth, two drops, a slower backbone.
REFERENCE = Recipe(
    size=320,
    epochs=26,
    batch_size=16,
    optimizer="sgd",
    lr=0.01,
    weight_decay=1e-4,
    schedule="multistep",
    warmup_iterations=500,
    backbone_lr_factor=0.1,
)

# For the anchor-free dense head on little data: many small steps, and no two images alike.
DENSE = Recipe(
    size=320,
    epochs=50,
    batch_size=8,
    optimizer="adamw",
    lr=2e-3,
    weight_decay=0.02,
    schedule="cosine",
    warmup_iterations=100,
    mosaic=0.5,
)
