"""Settings that are `auto` follow the training set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.core.errors import UserError
from detector.core.yaml_files import parse_yaml
from detector.engine.annotations import Annotations
from detector.engine.dataset import pack_annotations
from detector.models import MODELS
from detector.training.auto_settings import (
    MANY_OBJECTS,
    STEPS,
    choose_class_loss_weight,
    choose_epochs,
    choose_input_size,
    choose_longest_side,
    describe_limit,
    fit_to_training_set,
)
from detector.training.settings import TrainParams, resolve_recipe

ROOT = Path(__file__).parents[2]


def make_annotations(side: int, objects: list[float], images: int = 1) -> Annotations:
    """Images of `side` x 3/4 `side` pixels, each with square objects of these lengths."""
    boxes = [(image, length) for image in range(images) for length in objects]
    return pack_annotations(
        {
            "images": [
                {"id": image, "file_name": f"{image}.jpg", "width": side, "height": side * 3 // 4}
                for image in range(images)
            ],
            "annotations": [
                {"image_id": image, "bbox": [0, 0, length, length], "category_id": 1, "state": 0, "iscrowd": 0}
                for image, length in boxes
            ],
        }
    )


@pytest.mark.parametrize(
    ("side", "objects", "expected"),
    [
        (640, [40.0], 320),  # small objects as large as the recipe wants them
        (640, [200.0], 192),  # large objects: at least 0.6 times the recipe's size
        (4000, [20.0], 448),  # tiny objects: at most 1.4 times
        (4000, [200.0], 416),  # 320 / 16 / 0.05 = 400
        (320, [10.0], 320),  # small images are not enlarged
        (300, [10.0], 320),  # but rounded up
        (100, [10.0], 192),
    ],
)
def test_the_size_follows_the_images_and_their_objects(side: int, objects: list[float], expected: int) -> None:
    assert choose_longest_side(make_annotations(side, objects), 320) == expected


def test_one_object_in_twenty_may_be_smaller() -> None:
    assert choose_longest_side(make_annotations(640, [40.0] * 98 + [2.0] * 2), 320) == 320
    assert choose_longest_side(make_annotations(640, [40.0] * 90 + [2.0] * 10), 320) == 448


def test_without_objects_the_size_is_the_recipes() -> None:
    assert choose_longest_side(make_annotations(640, []), 320) == 320


def test_objects_that_are_not_to_be_detected_do_not_count() -> None:
    annotations = make_annotations(640, [200.0, 10.0])
    assert choose_longest_side(annotations, 320) == 448
    annotations = annotations._replace(states=np.array([1, 2]))
    assert choose_longest_side(annotations, 320, absent=[2]) == 192
    assert choose_longest_side(annotations, 320, absent=[1, 2]) == 320


def test_objects_much_smaller_than_the_recipe_wants_are_named() -> None:
    annotations, spec = make_annotations(4000, [20.0]), MODELS["simple"]
    assert describe_limit(annotations, (352, 448), spec, []) == (
        "one object in twenty is smaller than 2.2 pixels at this size; a larger `train.image_size`, up to 4000 (the "
        "images have no more pixels), can find more of them and takes longer"
    )
    # Letterboxed to a height of 96, the images are 128 pixels wide.
    assert "smaller than 0.6 pixels" in describe_limit(annotations, (96, 448), spec, [])


@pytest.mark.parametrize(
    ("side", "objects", "size"),
    [
        (4000, [100.0], (352, 448)),  # 11.2 pixels; the recipe wants 20
        (448, [2.0], (352, 448)),  # the images have no more pixels
        (449, [2.0], (352, 448)),  # but for one
        (4000, [], (352, 448)),
    ],
)
def test_nothing_is_said_where_a_larger_input_would_not_help(
    side: int, objects: list[float], size: tuple[int, int]
) -> None:
    assert describe_limit(make_annotations(side, objects), size, MODELS["simple"], []) == ""


def test_objects_smaller_than_half_of_the_smallest_anchor_are_named_at_any_image_size() -> None:
    annotations = make_annotations(640, [40.0])
    for size in ((240, 320), (480, 640)):
        assert describe_limit(annotations, size, MODELS["ssdlite"], []) == (
            "one object in twenty is smaller than 6.2% of the longer side of its image; the smallest anchor of this "
            "model is 20% of it at any `train.image_size`, so it hardly finds them. Most other models can, such as "
            "effnet_lite"
        )
    assert describe_limit(annotations, (240, 320), MODELS["simple"], []) == ""
    assert describe_limit(make_annotations(640, [65.0]), (240, 320), MODELS["ssdlite"], []) == ""


@given(side=st.integers(10, 20_000), fraction=st.floats(0.001, 1), recipe=st.sampled_from([320, 416, 576, 640]))
def test_any_size_is_a_multiple_of_32_within_its_limits(side: int, fraction: float, recipe: int) -> None:
    size = choose_longest_side(make_annotations(side, [fraction * side]), recipe)
    assert size % 32 == 0
    assert 0.6 * recipe <= size < 1.4 * recipe + 32
    assert size <= max(0.6 * recipe + 32, side + 31)


@pytest.mark.parametrize(
    ("images", "epochs"),
    [
        (256, 36),
        (16 * 256, 18),  # 8 times the steps
        (20, 200),  # 400 steps
        (100_000, 7),  # 90,000 steps
        (1_000_000, 1),  # one pass, however many steps
    ],
)
def test_the_number_of_steps_grows_with_the_images_within_limits(images: int, epochs: int) -> None:
    assert choose_epochs(images, images // 8, 36) == epochs


@given(images=st.integers(1, 2_000_000), per_step=st.integers(1, 64), recipe=st.integers(1, 300))
def test_any_number_of_epochs_keeps_the_limits(images: int, per_step: int, recipe: int) -> None:
    per_epoch = max(1, images // per_step)
    epochs = choose_epochs(images, per_epoch, recipe)
    assert epochs >= 1
    assert (epochs + 0.5) * per_epoch >= STEPS[0]
    assert epochs == 1 or (epochs - 0.5) * per_epoch <= STEPS[1]


@pytest.mark.parametrize(
    ("model", "given", "longest", "expected"),
    [
        ("effnet_lite", "auto", 320, (256, 320)),
        ("effnet_lite", (96, 640), 320, (96, 640)),
        ("lwdetr", "auto", 352, (320, 384)),  # multiples of 64
        ("lwdetr", "auto", 64, (192, 192)),
        ("rfdetr_nano", "auto", 256, (256, 320)),  # 300 queries need 300 cells
        ("rfdetr_nano", (320, 256), 320, (320, 256)),
    ],
)
def test_the_input_is_one_that_the_model_takes(
    model: str, given: str | tuple[int, int], longest: int, expected: tuple[int, int]
) -> None:
    assert choose_size(model, given, longest) == expected


@pytest.mark.parametrize(
    ("model", "given", "message"),
    [
        ("lwdetr", 352, "is 352; `train.model` lwdetr needs multiples of 64"),
        ("lwdetr", (320, 352), r"is \(320, 352\); .* multiples of 64"),
        ("rfdetr_nano", 288, "at least 300 cells of 16 x 16 pixels; 288 x 224 pixels have 252"),
    ],
)
def test_an_input_that_the_model_does_not_take_is_an_error(
    model: str, given: int | tuple[int, int], message: str
) -> None:
    with pytest.raises(UserError, match=f"params.yaml: `train.image_size` .*{message}"):
        choose_size(model, given, given if isinstance(given, int) else max(given))


def choose_size(model: str, given: str | int | tuple[int, int], longest: int) -> tuple[int, int]:
    section: dict[str, Any] = parse_yaml((ROOT / "params.yaml").read_text())["train"]
    params = TrainParams.model_validate({**section, "model": model, "image_size": given})
    recipe = replace(MODELS[model].recipe, image_size=longest)
    return choose_input_size(params, recipe, make_annotations(640, [200.0]), MODELS[model])


def test_values_of_params_yaml_are_kept() -> None:
    section: dict[str, Any] = parse_yaml((ROOT / "params.yaml").read_text())["train"]
    annotations = make_labels([1, 2] * 40)
    spec = MODELS["effnet_lite"]
    recipe = replace(spec.recipe, image_size=96, epochs=3)

    def fit(**changes: object) -> tuple[int, int, float]:
        automatic = {"image_size": "auto", "epochs": "auto", "class_loss_weight": "auto"}
        params = TrainParams.model_validate({**section, **automatic, **changes})
        fitted = fit_to_training_set(resolve_recipe(params, recipe, True), params, annotations, spec, [])
        return fitted.image_size, fitted.epochs, fitted.class_loss_weight

    weight = choose_class_loss_weight(annotations, 3)
    assert weight > 1
    assert fit() == (64, 40, weight)
    assert fit(image_size=96, epochs=3) == (96, 3, weight)
    assert fit(image_size=[96, 64]) == (96, 40, weight)
    assert fit(epochs=3) == (64, 3, weight)
    assert fit(class_loss_weight=2) == (64, 40, 2)


def make_labels(labels: list[int]) -> Annotations:
    """One large object of each label in an image of its own."""
    return make_annotations(640, [200.0], images=len(labels))._replace(labels=np.array(labels))


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([1, 2, 3] * MANY_OBJECTS, 1),
        ([1, 2] * (MANY_OBJECTS // 4), 2),  # a quarter of the objects
        ([1] * MANY_OBJECTS * 2 + [2, 3] * (MANY_OBJECTS // 2), 1),  # on average
        (list(range(1, 32)) * 2, 3),  # two objects of each class: the highest weight
        ([1] * 5, 1),  # nothing to tell apart
        ([], 1),
    ],
)
def test_with_few_objects_per_class_the_class_loss_weighs_more(labels: list[int], expected: float) -> None:
    assert choose_class_loss_weight(make_labels(labels), 3) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("model", "expected"), [("effnet_lite", 3), ("simple", 3), ("effnet", 3), ("ssdlite", 1), ("detr", 1)]
)
def test_only_the_dense_head_weighs_few_objects_more(model: str, expected: float) -> None:
    spec = MODELS[model]
    assert choose_class_loss_weight(make_labels([1, 2]), spec.max_class_loss_weight) == expected
