"""DETR and RT-DETR: the same outputs as transformers' models, their pretrained weights, and training."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torchvision.ops import box_convert
from transformers import (
    DetrConfig,
    DetrForObjectDetection,
    RTDetrResNetConfig,
    RTDetrV2Config,
    RTDetrV2ForObjectDetection,
)

from detector.core.errors import UserError
from detector.engine.structures import Targets
from detector.models import MODELS, denoising, detr, rtdetr
from detector.models.denoising import make_denoising_queries
from detector.models.hungarian import SetTargets
from detector.models.postprocess import Postprocess
from detector.models.recipe import Recipe
from detector.models.state_head import StateConfig
from detector.training.optimization import make_optimizer

POSTPROCESS = Postprocess(0.001, max_detections=20)
BOTH = pytest.mark.parametrize("name", ["detr", "rtdetr"])


def randomize(network: nn.Module) -> Any:
    """Give every layer random weights of about the size they have after training."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.ndim > 1:
                value.normal_(0, 0.8 * value[0].numel() ** -0.5, generator=generator)
            elif value.is_floating_point() and not name.endswith("running_var"):
                value += torch.randn(value.shape, generator=generator) * 0.1
    return network.eval()


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Stand-ins for the COCO weights: `name` is the network, `name folder` where it is saved."""
    torch.manual_seed(0)
    backbone = RTDetrResNetConfig(
        depths=[2, 2, 2, 2],
        hidden_sizes=[64, 128, 256, 512],
        layer_type="basic",
        out_indices=[2, 3, 4],  # type: ignore[call-arg]
    )
    config = RTDetrV2Config(
        backbone_config=backbone,
        encoder_in_channels=[128, 256, 512],
        hidden_expansion=0.5,
        decoder_layers=3,
        num_labels=3,  # type: ignore[call-arg]
    )
    networks = {
        "detr": DetrForObjectDetection(
            DetrConfig(encoder_layers=2, decoder_layers=2, num_labels=3)  # type: ignore[call-arg]
        ),
        "rtdetr": RTDetrV2ForObjectDetection(config),
    }
    saved: dict[str, Any] = {}
    for name, network in networks.items():
        folder = tmp_path_factory.mktemp(name)
        saved[name], saved[f"{name} folder"] = randomize(network), folder
        network.save_pretrained(folder)
    return saved


def from_published(name: str, published: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Our model with the network's weights, loaded like the COCO weights."""
    module, folder = {"detr": detr, "rtdetr": rtdetr}[name], published[f"{name} folder"]
    monkeypatch.setattr(module, "download_hub_weights", lambda _: folder)
    return MODELS[name].build(3, StateConfig(), MODELS[name].choose_statistics("coco"), POSTPROCESS, "coco").eval()


def test_detr_equals_transformers(published: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model, theirs = from_published("detr", published, monkeypatch), published["detr"]
    model.class_head.load_state_dict(theirs.class_labels_classifier.state_dict())
    images = torch.randint(0, 256, (2, 3, 96, 128), dtype=torch.uint8)
    images[1, :, 70:] = model.normalize.mean[0].to(torch.uint8)
    images[1, :, :, 90:] = model.normalize.mean[0].to(torch.uint8)
    mask = torch.ones(2, 96, 128)
    mask[1, 70:] = mask[1, :, 90:] = 0
    with torch.no_grad():
        detections = model(images).detections
        expected = theirs(pixel_values=model.normalize(images), pixel_mask=mask)
    sides = torch.tensor([[128.0, 96.0], [90.0, 70.0]]).repeat(1, 2)[:, None]
    boxes = expected.pred_boxes * sides
    scores, order = expected.logits.softmax(-1)[..., :3].flatten(1).topk(20)
    assert torch.allclose(detections.scores, scores, atol=1e-5)
    centers = (detections.boxes_xyxy[..., :2] + detections.boxes_xyxy[..., 2:]) / 2
    assert torch.allclose(centers, boxes[..., :2].gather(1, (order // 3)[..., None].expand(-1, -1, 2)), atol=1e-2)
    assert float(scores.std()) > 1e-4


def test_rtdetr_equals_transformers(published: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    model = from_published("rtdetr", published, monkeypatch)
    # Frozen batch norms round differently, which is enough to select other cells as queries.
    folder = published["rtdetr folder"]
    theirs = RTDetrV2ForObjectDetection.from_pretrained(folder, freeze_backbone_batch_norms=False).eval()
    model.body.enc_score_head.load_state_dict(theirs.model.enc_score_head.state_dict())
    model.body.decoder.class_embed.load_state_dict(theirs.model.decoder.class_embed.state_dict())
    images = torch.randint(0, 256, (2, 3, 128, 128), dtype=torch.uint8)  # enough cells for all queries
    with torch.no_grad():
        detections = model(images).detections
        expected = theirs(pixel_values=images / 255)
    scores, order = expected.logits.sigmoid().flatten(1).topk(40)
    assert torch.allclose(detections.scores, scores[:, :20], atol=1e-5)
    boxes = box_convert(expected.pred_boxes * 128, "cxcywh", "xyxy")
    boxes = boxes.gather(1, (order // 3)[..., None].expand(-1, -1, 4))
    assert torch.cdist(detections.boxes_xyxy, boxes, p=float("inf")).amin(-1).amax() < 0.2


@BOTH
def test_coco_weights_are_loaded_except_the_class_layers(
    name: str, published: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = from_published(name, published, monkeypatch).train()
    theirs = published[name].model.state_dict()
    kept = [key for key in theirs if f"body.{key}" in model.state_dict()]
    own = model.state_dict()
    new = {key for key in kept if not torch.equal(own[f"body.{key}"], theirs[key])}
    assert all("class" in key or "score" in key for key in new)
    assert len(new) == (0 if name == "detr" else 9)
    assert len(kept) + len([key for key in theirs if key.startswith("backbone.")]) == len(theirs)
    for key, value in theirs.items():
        if key.startswith("backbone.model."):
            assert torch.equal(own[key.replace("backbone.model.", "backbone.")], value)
    norms = [module for module in model.backbone.modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms
    assert not any(norm.training or norm.weight.requires_grad for norm in norms)
    assert any(p.requires_grad for p in model.backbone.parameters())
    # The backbone has its own parameter group, and the weights load into a model built without a download.
    recipe: Recipe = MODELS[name].recipe
    rates = {group["lr"] for group in make_optimizer(model, recipe).param_groups}
    assert rates == {recipe.lr, recipe.lr * recipe.backbone_lr_factor}
    if name == "detr":
        monkeypatch.setattr(detr, "LAYERS", 2)
    MODELS[name].build(3, StateConfig(), MODELS[name].choose_statistics("coco"), POSTPROCESS, "none").load_state_dict(
        own
    )


@BOTH
def test_coco_weights_without_internet(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", refuse)
    with pytest.raises(UserError, match=r"no route to host\n.*hub: copy the folder models--\w+--\w+.*train\.weights"):
        MODELS[name].build(3, StateConfig(), MODELS[name].choose_statistics("coco"), POSTPROCESS, "coco")


def test_imagenet_weights_without_internet(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    with pytest.raises(UserError, match=r"checkpoints: copy the file there.*train\.weights: none"):
        MODELS["detr"].build(3, StateConfig(), MODELS["detr"].statistics, POSTPROCESS, "imagenet")


def test_denoising_queries_match_their_objects() -> None:
    torch.manual_seed(0)
    labels = torch.tensor([[1, 0, 3], [0, 0, 0], [2, 2, 0]])  # padding need not come last
    boxes = torch.rand(3, 3, 4) * 0.2 + 0.4
    embedding = nn.Embedding(4, 8, padding_idx=3)
    denoising_queries = make_denoising_queries(SetTargets(boxes, labels, torch.zeros_like(labels)), embedding, 7)
    assert denoising_queries is not None
    assert denoising_queries.groups == denoising.DENOISING_QUERIES // 2
    queries = denoising_queries.features.shape[1]
    assert denoising_queries.boxes.shape == (3, queries, 4)
    assert denoising_queries.mask.shape == (queries + 7, queries + 7)
    assert denoising_queries.mask[queries:, :queries].isneginf().all()
    row, query, object_index = denoising_queries.matches
    assert sorted(set(row.tolist())) == [0, 2]
    assert len(row) == 4 * denoising_queries.groups
    true_boxes = boxes[row, object_index]
    # Edges move by at most half a box; those of negative queries move further.
    moved = (denoising_queries.boxes[row, query].sigmoid()[:, :2] - true_boxes[:, :2]).abs() / true_boxes[:, 2:]
    assert moved.max() <= 0.51
    assert (labels[row, object_index] > 0).all()
    assert make_denoising_queries(SetTargets(boxes[:, :0], labels[:, :0], labels[:, :0]), embedding, 7) is None


@BOTH
def test_a_step_is_bit_identical_when_repeated(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With deterministic kernels, as in training."""
    monkeypatch.setattr(detr, "LAYERS", 1)
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    targets = Targets(torch.tensor([[[5, 5, 40, 50.0]]] * 2), torch.ones(2, 1).long(), torch.zeros(2, 1).long())
    monkeypatch.setattr(rtdetr, "QUERIES", 40)
    torch.use_deterministic_algorithms(True)
    gradients = []
    try:
        for _ in range(2):
            torch.manual_seed(0)
            model = (
                MODELS[name]
                .build(2, StateConfig(), MODELS[name].choose_statistics("coco"), POSTPROCESS, "none")
                .train()
            )
            torch.stack(list(model(images, targets).losses.values())).sum().backward()
            gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


@BOTH
@pytest.mark.parametrize("objects", [0, pytest.param(1, marks=pytest.mark.long)])
def test_every_parameter_gets_a_gradient_in_every_step(
    name: str, objects: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As distributed training requires; half precision ends at the heads."""
    monkeypatch.setattr(detr, "LAYERS", 1)
    monkeypatch.setattr(rtdetr, "QUERIES", 40)
    states = StateConfig(present=(True, False), weights=(1.0, 1.0), loss_weight=0.5)
    model = MODELS[name].build(2, states, MODELS[name].choose_statistics("coco"), POSTPROCESS, "none").train()
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    ones = torch.ones(2, objects, dtype=torch.int64)
    targets = Targets(torch.tensor([[[5, 5, 40, 50.0]]] * 2)[:, :objects], ones, ones)
    with torch.autocast("cpu", torch.bfloat16):
        losses = model(images, targets).losses
    total = torch.stack(list(losses.values())).sum()
    assert total.isfinite()
    total.backward()
    assert not [key for key, parameter in model.named_parameters() if parameter.grad is None]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        assert model.eval()(images, targets).detections.scores.dtype == torch.float32


@pytest.mark.long
@pytest.mark.parametrize(("name", "steps", "max_loss_ratio"), [("detr", 20, 0.45), ("rtdetr", 25, 0.6)])
def test_fits_a_few_images(name: str, steps: int, max_loss_ratio: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """With fewer queries and layers, to be fast."""
    monkeypatch.setattr(detr, "LAYERS", 1)
    monkeypatch.setattr(rtdetr, "QUERIES", 40)
    monkeypatch.setattr(denoising, "DENOISING_QUERIES", 4)
    torch.manual_seed(0)
    model = MODELS[name].build(2, StateConfig(), MODELS[name].choose_statistics("coco"), POSTPROCESS, "none")
    images = torch.randint(90, 120, (2, 3, 96, 128), dtype=torch.uint8)
    images[0, 0, 10:60, 20:80] = images[1, 1, 30:90, 50:120] = 250
    boxes = torch.tensor([[[20, 10, 80, 60.0]], [[50, 30, 120, 90]]])
    targets = Targets(boxes, torch.tensor([[1], [2]]), torch.zeros(2, 1, dtype=torch.int64))
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-4)
    totals = []
    for _ in range(steps):
        total = torch.stack(list(model.train()(images, targets).losses.values())).sum()
        optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10)
        optimizer.step()
        totals.append(float(total.detach()))
    assert sum(totals[-3:]) < max_loss_ratio * sum(totals[:3])
