"""The weights of class and box losses."""

from __future__ import annotations

import dataclasses

from detector.models.recipe import REFERENCE
from detector.training.loss_weights import BOX_LOSSES, CLASS_LOSSES, get_loss_weights
from tests.models.test_models import CLASS_LOSSES as TESTED_CLASS_LOSSES
from tests.models.test_models import LOSSES


def test_every_component_of_every_model_is_a_class_or_a_box_loss() -> None:
    components = set().union(*LOSSES.values())
    assert set(CLASS_LOSSES) == TESTED_CLASS_LOSSES
    assert set(BOX_LOSSES) == components - TESTED_CLASS_LOSSES


def test_each_weight_applies_to_its_components_only() -> None:
    recipe = dataclasses.replace(REFERENCE, class_loss_weight=2.0, box_loss_weight=0.25, state_loss_weight=7.0)
    weights = get_loss_weights(recipe)
    assert {weights[name] for name in CLASS_LOSSES} == {2.0}
    assert {weights[name] for name in BOX_LOSSES} == {0.25}
    assert "loss_state" not in weights  # the state head applies its own
    assert set(get_loss_weights(REFERENCE).values()) == {1.0}
