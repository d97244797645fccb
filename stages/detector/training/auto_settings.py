"""`image_size`, `epochs` and `class_loss_weight` follow the training set when they are `auto`.

docs/models.md has the measurements behind them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from detector.core.errors import UserError
from detector.engine.annotations import Annotations
from detector.engine.dataset import choose_image_size
from detector.models import CELL, ModelSpec
from detector.models.recipe import Recipe
from detector.training.settings import TrainParams

# The image size of a recipe suits objects whose size, the square root of a box's area, is this fraction of the longer
# side of their image: 20 pixels at 320.
SMALL_OBJECT = 1 / 16
SMALL_QUANTILE = 0.05  # one object in twenty is smaller than the small object that decides
SIZE_FACTORS = (0.6, 1.4)  # of the recipe's image size, at least and at most; 1.4: twice the pixels
RECIPE_IMAGES = 256  # training images for which a recipe's epochs are meant
EPOCHS_EXPONENT = -0.25  # 16 times the images have 8 times the steps
STEPS = (400, 90_000)  # optimizer steps, at least and at most
MANY_OBJECTS = 300  # per class: with fewer, the class loss weighs more


def fit_to_training_set(
    recipe: Recipe, params: TrainParams, annotations: Annotations, spec: ModelSpec, absent: Sequence[int]
) -> Recipe:
    """Return the recipe with what is `auto` in params.yaml and follows the training set.

    absent: ids of the states in which an object is not to be detected.
    """
    if params.image_size == "auto":
        recipe = replace(recipe, image_size=choose_longest_side(annotations, recipe.image_size, absent))
    if params.epochs == "auto":
        images = len(annotations.paths)
        batches = max(1, images // (recipe.batch_size * params.processes))  # the sampler drops an incomplete one
        recipe = replace(recipe, epochs=choose_epochs(images, -(-batches // recipe.accumulate_steps), recipe.epochs))
    if params.class_loss_weight == "auto":
        weight = choose_class_loss_weight(annotations, spec.max_class_loss_weight)
        recipe = replace(recipe, class_loss_weight=recipe.class_loss_weight * weight)
    return recipe


def choose_longest_side(annotations: Annotations, recipe_size: int, absent: Sequence[int] = ()) -> int:
    """Return the longer side of the input in pixels, a multiple of 32, at which small objects are as large as needed.

    Images are not enlarged, and the result is 0.6 to 1.4 times `recipe_size`, rounded up, and the recipe's own
    without objects in other states than `absent`.
    """
    small = measure_small_object(annotations, absent)
    if small is None:
        return recipe_size
    largest = min(recipe_size * SIZE_FACTORS[1], float(np.quantile(annotations.sizes.max(1), 0.95)))
    return max(round_up(min(recipe_size * SMALL_OBJECT / small, largest)), round_up(recipe_size * SIZE_FACTORS[0]))


def measure_small_object(annotations: Annotations, absent: Sequence[int]) -> float | None:
    """Return the size that one object in twenty is below, as a fraction of the longer side of its image.

    The size is the square root of a box's area. None without objects in other states than `absent`.
    """
    present = ~np.isin(annotations.states, absent)
    if not present.any():
        return None
    width, height = (annotations.boxes_xyxy[:, 2:] - annotations.boxes_xyxy[:, :2]).T.astype(np.float64)
    sizes = np.sqrt(width * height) / np.repeat(annotations.sizes.max(1), np.diff(annotations.starts))
    return float(np.quantile(sizes[present], SMALL_QUANTILE))


def describe_limit(annotations: Annotations, size: tuple[int, int], spec: ModelSpec, absent: Sequence[int]) -> str:
    """Return a line about objects that the model hardly finds because they are small; empty if there are none.

    Either the model has no anchor that overlaps them by a quarter, at any input size; or an input of `size` (H, W)
    shows them smaller than half of what the recipe wants, and the images are larger than the input.
    """
    small, longest_sides = measure_small_object(annotations, absent), annotations.sizes.max(1)
    if small is None:
        return ""
    if small < spec.smallest_anchor / 2:
        return (
            f"one object in twenty is smaller than {small:.1%} of the longer side of its image; the smallest anchor of "
            f"this model is {spec.smallest_anchor:.0%} of it at any `train.image_size`, so it hardly finds them. Most "
            "other models can, such as effnet_lite"
        )
    largest = round_up(float(np.quantile(longest_sides, 0.95)))
    shown_side = float(np.median(longest_sides * (np.array(size) / annotations.sizes).min(1)))  # letterboxed
    if small * shown_side >= spec.recipe.image_size * SMALL_OBJECT / 2 or largest <= max(size):
        return ""
    return (
        f"one object in twenty is smaller than {small * shown_side:.1f} pixels at this size; a larger "
        f"`train.image_size`, up to {largest} (the images have no more pixels), can find more of them and takes longer"
    )


def round_up(length: float) -> int:
    """Return the smallest multiple of 32 that is not below `length`, but for a pixel."""
    return int(-(-(length - 1) // 32)) * 32


def choose_input_size(
    params: TrainParams, recipe: Recipe, annotations: Annotations, spec: ModelSpec
) -> tuple[int, int]:
    """Return the input size (H, W), multiples of the model's `size_multiple`.

    The recipe's image size is the longer side, and the images decide the other; `auto` is enlarged until the input has
    as many cells as the model needs. Raises UserError when params.yaml sets a size that the model cannot take.
    """
    multiple, given = spec.size_multiple, params.image_size
    sides = given if isinstance(given, tuple) else () if given == "auto" else (given,)
    mistake = f"params.yaml: `train.image_size` is {params.image_size}; `train.model` {params.model} needs"
    if any(side % multiple for side in sides):
        raise UserError(f"{mistake} multiples of {multiple}")
    longest = recipe.image_size
    while True:
        size = given if isinstance(given, tuple) else choose_image_size(annotations, longest)
        height, width = (-(-side // multiple) * multiple for side in size)
        cells = (height // CELL) * (width // CELL)
        if cells >= spec.min_cells:
            return height, width
        if sides:
            raise UserError(
                f"{mistake} at least {spec.min_cells} cells of {CELL} x {CELL} pixels; {width} x {height} pixels have "
                f"{cells}"
            )
        longest += multiple


def choose_epochs(images: int, steps_per_epoch: int, recipe_epochs: int) -> int:
    """Return the number of epochs for a training set of `images`; `recipe_epochs` are meant for 256 images.

    The optimizer steps grow with the power 3/4 of the number of images, between 400 and 90,000; at least one epoch.
    """
    wanted = recipe_epochs * float((images / RECIPE_IMAGES) ** EPOCHS_EXPONENT)
    at_least, at_most = (limit / steps_per_epoch for limit in STEPS)
    return max(1, round(min(max(wanted, at_least), at_most)))


def choose_class_loss_weight(annotations: Annotations, highest: float) -> float:
    """Return the factor of the class loss, 1 to `highest`: it grows as the objects per class become fewer.

    Every object teaches the boxes, but only its own class. With one class there is nothing to tell apart: 1. Absent
    objects count, because they teach a class as others do.
    """
    classes = len(np.unique(annotations.labels))
    if classes < 2:
        return 1.0
    return min(highest, max(1.0, math.sqrt(MANY_OBJECTS * classes / len(annotations.labels))))
