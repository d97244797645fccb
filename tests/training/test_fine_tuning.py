"""Loading matching weights, and freezing by name."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from detector.core.errors import UserError
from detector.models import MODELS
from detector.models.normalization import PixelStatistics
from detector.models.postprocess import Postprocess
from detector.models.state_head import StateConfig
from detector.training.fine_tuning import freeze, load_matching_weights


def build(classes: int = 3, model: str = "simple", seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return MODELS[model].build(classes, StateConfig(), PixelStatistics((120,) * 3, (60,) * 3), Postprocess(), "none")


def test_all_matching_weights_are_loaded() -> None:
    source, model = build(seed=1), build()
    assert load_matching_weights(model, source.state_dict(), "a.safetensors") == []
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in model.state_dict().items())


def test_layers_of_other_classes_stay_initialized() -> None:
    source, model = build(5, seed=1), build(3)
    before = copy.deepcopy(model.state_dict())
    new = load_matching_weights(model, source.state_dict(), "a.safetensors")
    assert new == ["head.class_logits.weight", "head.class_logits.bias"]
    for name, value in model.state_dict().items():
        assert torch.equal(value, (before if name in new else source.state_dict())[name])


def test_weights_of_another_architecture() -> None:
    with pytest.raises(UserError, match=r"a\.safetensors.* 0 of "):
        load_matching_weights(build(), {"layer.weight": torch.zeros(3)}, "a.safetensors")


def test_frozen_parameters_do_not_change() -> None:
    model = build()
    freeze(model, ("backbone.stem", "backbone.stages.1", "head.class_logits.bias"))
    before = copy.deepcopy(model.state_dict())
    optimizer = torch.optim.SGD([parameter for parameter in model.parameters() if parameter.requires_grad], lr=0.1)
    images = torch.randint(0, 255, (2, 3, 64, 64), dtype=torch.uint8)
    maps = model.train().backbone(model.normalize(images))  # type: ignore[operator]
    model.head(model.neck(maps)).classes.sum().backward()  # type: ignore[operator]
    optimizer.step()
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    frozen = ("backbone.stem.", "backbone.stages.1.", "head.class_logits.bias")
    assert not [name for name in changed if name.startswith(frozen)]
    assert {"head.class_logits.weight", "backbone.stages.0.0.1.running_mean"} <= changed


def test_weights_of_a_frozen_model_load_into_an_unfrozen_one() -> None:
    model, other = build(), build(seed=1)
    freeze(model, ("backbone",))
    other.load_state_dict(dict(model.state_dict()))
    images = torch.randint(0, 255, (1, 3, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        own, loaded = (net.eval()(images).detections.boxes_xyxy for net in (model, other))
    assert torch.allclose(own, loaded, atol=1e-3)


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UserError, match=r"'backbone\.stm'.*backbone\.stem"):
        freeze(build(), ("backbone.stm",))


def test_freezing_everything_is_an_error() -> None:
    with pytest.raises(UserError, match=r"train\.freeze"):
        freeze(build(), ("backbone", "neck", "head"))


@pytest.mark.parametrize("name", MODELS)
def test_recipes_freeze_existing_modules(name: str) -> None:
    freeze(build(model=name), MODELS[name].recipe.freeze)
