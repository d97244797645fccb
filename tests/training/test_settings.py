"""Resolving `auto` into a model's recipe."""

from __future__ import annotations

from pathlib import Path

import pytest

from detector.core.errors import UserError
from detector.core.params import load_section
from detector.core.yaml_files import parse_yaml
from detector.models import MODELS
from detector.models.recipe import DENSE, REFERENCE
from detector.training.settings import TrainParams, resolve_recipe

ROOT = Path(__file__).parents[2]


def params(**changes: object) -> TrainParams:
    section = parse_yaml((ROOT / "params.yaml").read_text())["train"]
    return TrainParams.model_validate(
        {**section, "image_size": "auto", "epochs": "auto", "class_loss_weight": "auto", **changes}
    )


@pytest.mark.parametrize("name", MODELS)
def test_auto_is_the_models_recipe(name: str) -> None:
    assert resolve_recipe(params(model=name), MODELS[name].recipe, True) == MODELS[name].recipe


def test_the_recipes_learning_rate_scales_with_the_batch_size() -> None:
    assert resolve_recipe(params(batch_size=4), REFERENCE, True).lr == pytest.approx(0.0025)
    assert resolve_recipe(params(batch_size=4, lr=0.3), REFERENCE, True).lr == 0.3


def test_adamws_rate_scales_with_the_square_root() -> None:
    assert resolve_recipe(params(batch_size=32), DENSE, True).lr == pytest.approx(2 * DENSE.lr)
    assert resolve_recipe(params(batch_size=2), DENSE, True).lr == pytest.approx(DENSE.lr / 2)


def test_the_recipes_learning_rate_scales_with_accumulated_batches() -> None:
    assert resolve_recipe(params(batch_size=4, accumulate_steps=4), REFERENCE, True).lr == REFERENCE.lr
    assert resolve_recipe(params(accumulate_steps=2), REFERENCE, True).lr == pytest.approx(2 * REFERENCE.lr)


def test_the_recipes_learning_rate_scales_with_the_number_of_processes() -> None:
    assert resolve_recipe(params(processes=4), REFERENCE, True).lr == pytest.approx(4 * REFERENCE.lr)
    assert resolve_recipe(params(processes=4, batch_size=4), REFERENCE, True).lr == REFERENCE.lr
    assert resolve_recipe(params(processes=4, lr=0.3), REFERENCE, True).lr == 0.3


def test_a_backbone_from_scratch_has_the_same_learning_rate() -> None:
    assert resolve_recipe(params(), REFERENCE, True).backbone_lr_factor == 0.1
    assert resolve_recipe(params(), REFERENCE, False).backbone_lr_factor == 1.0
    assert resolve_recipe(params(backbone_lr_factor=0.3), REFERENCE, False).backbone_lr_factor == 0.3


def test_an_image_size_of_two_numbers() -> None:
    assert resolve_recipe(params(image_size=[256, 320]), REFERENCE, True).image_size == 320
    with pytest.raises(UserError, match=r"`train.image_size` is \[250, 320\].*multiples of 32"):
        resolve_recipe(params(image_size=[250, 320]), REFERENCE, True)


def test_loss_weights_and_the_monitor_are_part_of_the_recipe() -> None:
    given: dict[str, object] = {"class_loss_weight": 2, "box_loss_weight": 0.5, "monitor": "loss"}
    recipe = resolve_recipe(params(**given), REFERENCE, True)
    assert {name: getattr(recipe, name) for name in given} == given


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("lr", 0),
        ("lr", "nan"),
        ("lr", -1),
        ("lr", ".inf"),
        ("image_size", 100),
        ("image_size", 0),
        ("precision", "fp8"),
        ("processes", 0),
        ("batch_size", 0),
        ("epochs", 0),
        ("accumulate_steps", 0),
        ("patience", -1),
        ("optimizer", "lion"),
        ("monitor", "F1"),
        ("keep_every", -1),
        ("class_loss_weight", -1),
        ("box_loss_weight", "auto"),
    ],
)
def test_invalid_values(tmp_path: Path, key: str, value: object) -> None:
    path = tmp_path / "params.yaml"
    text = (ROOT / "params.yaml").read_text().splitlines()
    in_train = text.index("train:")
    text = [
        f"  {key}: {value}" if number > in_train and line.startswith(f"  {key}:") else line
        for number, line in enumerate(text)
    ]
    path.write_text("\n".join(text))
    with pytest.raises(UserError, match=f"train.{key}"):
        load_section(path, "train", TrainParams)
