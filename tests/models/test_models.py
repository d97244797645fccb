"""Tests of every model in MODELS: interface, losses, states, training, weights."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from detector.core.errors import UserError
from detector.engine.structures import Targets
from detector.models import MODELS, load_model
from detector.models.normalization import PixelStatistics
from detector.models.postprocess import Postprocess
from detector.models.state_head import StateConfig
from tests.support.models import EACH_MODEL, TESTED
from tests.support.targets import no_targets, whole_image_targets

SIZE = (96, 128)
STATISTICS = PixelStatistics((120, 110, 100), (60, 60, 60))
NO_STATES = StateConfig()
TORCHVISION = ("ssdlite", "retinanet", "fcos", "faster_rcnn", "faster_rcnn_resnet50")  # with COCO weights
DENSE_LOSSES = {"loss_cls", "loss_ciou", "loss_dfl"}
TWO_STAGE_LOSSES = {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}
LOSSES = {
    "simple": DENSE_LOSSES,
    "effnet_lite": DENSE_LOSSES,
    "effnet": DENSE_LOSSES,
    "ssdlite": {"loss_cls", "loss_smooth_l1"},
    "retinanet": {"loss_cls", "loss_l1"},
    "fcos": {"loss_cls", "loss_giou", "loss_centerness"},
    "faster_rcnn": TWO_STAGE_LOSSES,
    "faster_rcnn_resnet50": TWO_STAGE_LOSSES,
    "detr": {"loss_ce", "loss_bbox", "loss_giou"},
    "rtdetr": {"loss_vfl", "loss_bbox", "loss_giou"},
    "dfine_n": {"loss_vfl", "loss_bbox", "loss_giou", "loss_fgl", "loss_ddf"},
    "deimv2_n": {"loss_mal", "loss_bbox", "loss_giou", "loss_fgl", "loss_ddf"},
    "rfdetr_nano": {"loss_ce", "loss_bbox", "loss_giou"},
}
CLASS_LOSSES = {
    "loss_cls",
    "loss_classifier",
    "loss_objectness",
    "loss_ce",
    "loss_vfl",
    "loss_mal",
}  # all others are box losses
TRAINING_LOSSES = {"loss_fgl", "loss_ddf"}  # which transformers does not compute in evaluation
STATES = StateConfig(present=(True, False), weights=(1.0, 2.0), loss_weight=0.5)


def build(name: str, classes: int = 3, score_threshold: float = 1e-4, states: StateConfig = NO_STATES) -> Any:
    torch.manual_seed(0)
    postprocess = Postprocess(score_threshold, max_detections=20)
    return MODELS[name].build(classes, states, STATISTICS, postprocess, "none")


def make_batch(count: int) -> tuple[torch.Tensor, Targets]:
    """Noise with one bright rectangle per image, whose color is its class."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(90, 120, (count, 3, *SIZE), dtype=torch.uint8, generator=generator)
    boxes, labels = torch.zeros(count, 2, 4), torch.zeros(count, 2, dtype=torch.int64)
    for index in range(count):
        left, top = 8 + 16 * (index % 3), 8 + 8 * (index % 4)
        label = index % 3 + 1
        images[index, label - 1, top : top + 40, left : left + 48] = 250
        boxes[index, 0], labels[index, 0] = torch.tensor([left, top, left + 48.0, top + 40.0]), label
    return images, whole_image_targets(boxes, labels, None, SIZE)


@pytest.mark.parametrize("name", TESTED)
def test_interface(name: str) -> None:
    model = build(name)
    images, targets = make_batch(3)
    training_output = model.train()(images, targets)
    assert training_output.detections is None
    assert training_output.losses.keys() == LOSSES[name]
    assert all(loss.ndim == 0 and loss.isfinite() for loss in training_output.losses.values())
    with torch.no_grad():
        output = model.eval()(images, targets)
        without_targets = model(images).detections
    assert output.losses.keys() == LOSSES[name] - TRAINING_LOSSES
    detections = output.detections
    assert detections.boxes_xyxy.shape == (3, 20, 4)
    assert detections.boxes_xyxy.dtype == torch.float32
    assert detections.scores.shape == detections.labels.shape == detections.states.shape == (3, 20)
    assert detections.counts.shape == (3,)
    assert ((detections.labels > 0).sum(1) == detections.counts).all()
    assert (detections.scores[:, :-1] >= detections.scores[:, 1:]).all()
    assert detections.labels.max() <= 3
    assert all(torch.equal(one, other) for one, other in zip(detections, without_targets, strict=True))


@EACH_MODEL
def test_states(name: str) -> None:
    model = build(name, states=STATES)
    images, targets = make_batch(3)
    targets = targets._replace(states=torch.tensor([[1, 0], [2, 0], [0, 0]]))
    losses = model.train()(images, targets).losses
    assert losses.keys() == LOSSES[name] | {"loss_state"}
    assert losses["loss_state"] > 0
    torch.stack(list(losses.values())).sum().backward()
    with torch.no_grad():
        output = model.eval()(images, targets)
        without_targets = model(images)
    assert output.target_states.shape == (3, 2, 2)
    assert output.target_states[:, 0].isfinite().all()
    assert without_targets.target_states is None
    detections = output.detections
    real = detections.labels > 0
    assert real.any()
    assert ((detections.states >= 1) == real).all()
    assert ((detections.state_scores >= 0.5) == real).all()  # the higher of two probabilities
    assert all(torch.equal(one, other) for one, other in zip(detections, without_targets.detections, strict=True))


@EACH_MODEL
def test_absent_objects_do_not_contribute_to_box_losses(name: str) -> None:
    images, targets = make_batch(2)

    def box_loss(states: list[int]) -> float:
        model = build(name, states=STATES).train()
        torch.manual_seed(0)
        losses = model(images, targets._replace(states=torch.tensor([[state, 0] for state in states]))).losses
        return sum(float(losses[part].detach()) for part in LOSSES[name] - CLASS_LOSSES)

    assert box_loss([1, 1]) == box_loss([0, 0]) > 0
    assert box_loss([2, 2]) == 0


@pytest.mark.parametrize("states", [NO_STATES, STATES])
@EACH_MODEL
def test_batches_without_objects(name: str, states: StateConfig) -> None:
    model = build(name, states=states).train()
    images, _ = make_batch(2)
    for objects in (0, 2):
        losses = model(images, no_targets(2, SIZE, objects)).losses
        assert all(loss.isfinite() for loss in losses.values())
        torch.stack(list(losses.values())).sum().backward()


@pytest.mark.parametrize("name", TESTED)
def test_without_detections_all_is_padding(name: str) -> None:
    model = build(name, score_threshold=0.9999).eval()
    with torch.no_grad():
        detections = model(make_batch(2)[0]).detections
    assert detections.counts.tolist() == [0, 0]
    assert not detections.boxes_xyxy.any()


@pytest.mark.parametrize(
    ("name", "steps", "lr", "max_loss_ratio"),
    [
        ("simple", 40, 2e-3, 0.35),
        ("effnet_lite", 40, 1e-3, 0.35),
        pytest.param("effnet", 40, 1e-3, 0.35, marks=pytest.mark.long),
        pytest.param("ssdlite", 40, 1e-3, 0.35, marks=pytest.mark.long),
        pytest.param("retinanet", 12, 1e-4, 0.45, marks=pytest.mark.long),
        # The centerness loss cannot fall below the entropy of its targets.
        pytest.param("fcos", 12, 1e-4, 0.45, marks=pytest.mark.long),
        pytest.param("faster_rcnn", 12, 5e-4, 0.35, marks=pytest.mark.long),
    ],
)
def test_fits_a_few_images(name: str, steps: int, lr: float, max_loss_ratio: float) -> None:
    assert name in MODELS
    model = build(name).train()
    images, targets = make_batch(4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    totals = []
    for _ in range(steps):
        total = torch.stack(list(model(images, targets).losses.values())).sum()
        optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10)
        optimizer.step()
        totals.append(float(total.detach()))
    assert sum(totals[-3:]) < max_loss_ratio * sum(totals[:3])


@pytest.mark.parametrize("name", TESTED)
def test_weights_round_trip(name: str) -> None:
    model = build(name).eval()
    loaded = load_model(name, model.state_dict(), 3, 0, Postprocess(1e-4, max_detections=20))
    images, _ = make_batch(1)
    with torch.no_grad():
        assert torch.equal(model(images).detections.scores, loaded(images).detections.scores)


def test_rejects_weights_of_another_model_or_class_count() -> None:
    weights = build("simple").state_dict()
    with pytest.raises(UserError, match="simple with 5 classes and 0 states"):
        load_model("simple", weights, 5, 0, Postprocess())
    with pytest.raises(UserError, match="ssdlite with 3 classes"):
        load_model("ssdlite", weights, 3, 0, Postprocess())
    with pytest.raises(UserError, match="known models: simple"):
        load_model("simpel", weights, 3, 0, Postprocess())


def test_padding_is_zero_after_normalization() -> None:
    model = build("simple")
    padding = torch.tensor(STATISTICS.mean, dtype=torch.uint8).view(1, 3, 1, 1)
    assert not model.normalize(padding).any()


@pytest.mark.parametrize(
    ("name", "weights"),
    [
        ("effnet", "imagenet"),
        *[(name, weights) for name in TORCHVISION for weights in ("coco", "imagenet")],
    ],
)
def test_pretrained_weights_without_internet(name: str, weights: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    with pytest.raises(
        UserError, match=r"(?s)no route to host.*checkpoints: copy the file there.*train\.weights: none"
    ):
        MODELS[name].build(3, NO_STATES, STATISTICS, Postprocess(), weights)


def test_padded_proposals_give_no_detections() -> None:
    model = build("faster_rcnn", score_threshold=0.0).eval()
    with torch.no_grad():
        model.box_head.predictor.cls_score.bias[0] = -20.0  # no background
        detections = model(make_batch(2)[0]).detections
    real = detections.labels > 0
    assert real.any()
    assert ((detections.boxes_xyxy[..., 2:] - detections.boxes_xyxy[..., :2]).amin(-1)[real] > 0).all()
