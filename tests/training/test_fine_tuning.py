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
from detector.training.fine_tuning import HeadNames, freeze, load_matching_weights
from tests.support.models import TESTED


def build(
    classes: int = 3,
    model: str = "simple",
    seed: int = 0,
    states: StateConfig = StateConfig(),  # noqa: B008
) -> nn.Module:
    torch.manual_seed(seed)
    return MODELS[model].build(classes, states, PixelStatistics((120,) * 3, (60,) * 3), Postprocess(), "none")


def heads(*classes: str, states: tuple[str, ...] = ()) -> HeadNames:
    return HeadNames(classes, states)


def test_all_weights_of_the_same_classes_are_loaded() -> None:
    source, model = build(seed=1), build()
    names = heads("a", "b", "c")
    assert load_matching_weights(model, names, source.state_dict(), names, "a.safetensors") == (["a", "b", "c"], [], [])
    assert all(torch.equal(value, source.state_dict()[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("trained", [("a", "b", "c"), ("c", "x", "a"), ("x", "y", "b", "z")])
def test_class_rows_are_loaded_by_name(trained: tuple[str, ...]) -> None:
    source, model = build(len(trained), seed=1), build(3)
    before = copy.deepcopy(model.state_dict())
    loaded = load_matching_weights(model, heads("c", "b", "new"), source.state_dict(), heads(*trained), "a.safetensors")
    assert loaded.classes == [name for name in ("c", "b") if name in trained]
    assert loaded.new_tensors == []
    for tensor, value in model.state_dict().items():
        theirs = source.state_dict()[tensor]
        if not tensor.startswith("head.class_logits."):
            assert torch.equal(value, theirs)
            continue
        for row, name in enumerate(("c", "b", "new")):
            assert torch.equal(value[row], theirs[trained.index(name)] if name in trained else before[tensor][row])


def test_state_rows_are_loaded_by_name() -> None:
    three, two = (StateConfig((True,) * count, (1.0,) * count, 0.5) for count in (3, 2))
    source, model = build(1, seed=1, states=three), build(1, states=two)
    trained = heads("a", states=("damaged", "hidden", "intact"))
    loaded = load_matching_weights(
        model, heads("a", states=("intact", "new")), source.state_dict(), trained, "a.safetensors"
    )
    assert loaded.states == ["intact"]
    own, theirs = (net.state_dict()["head.states.layers.3.weight"] for net in (model, source))
    assert torch.equal(own[0], theirs[2])
    assert not any(torch.equal(own[1], row) for row in theirs)


def test_a_state_head_that_the_weights_lack_is_new() -> None:
    model = build(1, states=StateConfig((True, False), (1.0, 1.0), 0.5))
    loaded = load_matching_weights(
        model, heads("a", states=("x", "y")), build(1).state_dict(), heads("a"), "a.safetensors"
    )
    assert loaded.states == []
    assert "head.states.layers.3.weight" in loaded.new_tensors


@pytest.mark.parametrize("tensor", ["layer.weight", "head.class_logits.weight"])
def test_weights_of_another_architecture(tensor: str) -> None:
    weights = {**(build().state_dict() if tensor.startswith("head") else {}), tensor: torch.zeros(3, 7, 1, 1)}
    with pytest.raises(UserError, match=r"a\.safetensors is of another architecture"):
        load_matching_weights(build(), heads("a", "b", "c"), weights, heads("a", "b", "c"), "a.safetensors")


def test_rows_and_names_that_do_not_fit() -> None:
    with pytest.raises(UserError, match=r"a\.safetensors is of another architecture"):
        load_matching_weights(build(3), heads("a"), build(4).state_dict(), heads("a", "b", "c"), "a.safetensors")


@pytest.mark.parametrize("name", ["effnet", "faster_rcnn", "retinanet", "rtdetr", "dfine_n", "detr"])
def test_norms_are_frozen_for_trained_weights_and_not_from_scratch(name: str) -> None:
    for weights in ("checkpoint", "none"):
        model = MODELS[name].build(3, StateConfig(), PixelStatistics((120,) * 3, (60,) * 3), Postprocess(), weights)
        norms = [module for module in model.backbone.modules() if isinstance(module, nn.BatchNorm2d)]  # type: ignore[union-attr]
        assert norms
        live = [norm for norm in norms if type(norm) is nn.BatchNorm2d]
        assert not live if weights == "checkpoint" else live == norms


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


@pytest.mark.parametrize("name", TESTED)
def test_recipes_freeze_existing_modules(name: str) -> None:
    freeze(build(model=name), MODELS[name].recipe.freeze)
