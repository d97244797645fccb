"""The query-based detectors equal transformers' own networks: loading, outputs and losses, on tiny random weights.

`python -m benchmarks.reference_equality` prints the differences that these tests record.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torchvision.ops import box_convert

from detector.engine.structures import Targets
from detector.models import MODELS
from detector.models.class_rows import find_class_rows, load_named_rows
from detector.models.postprocess import Postprocess
from detector.models.query_architectures import ARCHITECTURES
from detector.models.query_losses import make_labels
from detector.models.state_head import StateConfig, StateHead
from detector.training.optimization import make_optimizer
from detector.training.precision import use_precision
from tests.support.published_weights import NAMES, publish
from tests.support.targets import whole_image_targets
from tests.support.tiny_query_models import FAMILIES, QUERIES

POSTPROCESS = Postprocess(0.0, max_detections=20)
STATES = StateConfig(present=(True, False), weights=(1.0, 1.0), loss_weight=0.5)
SIZE = (128, 128)
TOLERANCE = 1e-4  # of scores and losses, and of boxes in shares of the input's side
EACH_FAMILY = pytest.mark.parametrize("name", FAMILIES)
EACH_ARCHITECTURE = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in FAMILIES else pytest.mark.long) for name in ARCHITECTURES]
)
Record = Callable[[str, object], None]


def build(name: str, weights: str = "none", classes: int = 3, states: StateConfig = StateConfig()) -> Any:  # noqa: B008
    return MODELS[name].build(classes, states, MODELS[name].coco_statistics, POSTPROCESS, weights)


def load_published(name: str) -> Any:
    """Our model with the published weights, also those of the classes."""
    model = build(name, "coco")
    rows = MODELS[name].load_coco_rows
    assert rows is not None
    assert load_named_rows(model, find_class_rows(model), NAMES, rows()) == list(NAMES)
    return model.eval()


def images_and_targets() -> tuple[torch.Tensor, Targets]:
    images = torch.randint(0, 256, (2, 3, *SIZE), generator=torch.Generator().manual_seed(2), dtype=torch.uint8)
    boxes = torch.tensor([[[10, 10, 60, 100.0], [30, 40, 90, 80]], [[0, 0, 128, 60], [0, 0, 0, 0]]])
    return images, whole_image_targets(boxes, torch.tensor([[1, 3], [2, 0]]), None, SIZE)


@EACH_ARCHITECTURE
def test_every_tensor_is_loaded(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Record
) -> None:
    theirs = publish(name, tmp_path, monkeypatch)
    own = {tensor.numpy().tobytes() for tensor in load_published(name).state_dict().values()}
    tensors = {key: tensor for key, tensor in theirs.state_dict().items() if tensor.ndim}
    assert [key for key, tensor in tensors.items() if tensor.numpy().tobytes() not in own] == []
    record_property("tensors", len(tensors))


def make_processor(name: str) -> Any:
    """The image processor that the checkpoints of this family were published with."""
    import transformers

    processors: dict[str, Any] = {
        "detr": transformers.DetrImageProcessor,
        "deformable_detr": transformers.DeformableDetrImageProcessor,
        "rfdetr": transformers.RfDetrImageProcessor,
        "lwdetr": transformers.DeformableDetrImageProcessor,
    }
    return processors.get(re.sub("_(nano|small|medium|[nsm])$", "", name), transformers.RTDetrImageProcessor)()


@EACH_ARCHITECTURE
def test_outputs_equal_the_reference(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Record
) -> None:
    theirs = publish(name, tmp_path, monkeypatch)
    model, (images, _) = load_published(name), images_and_targets()
    with torch.no_grad():
        detections = model(images).detections
        expected = theirs(pixel_values=model.normalize(images))
    results = make_processor(name).post_process_object_detection(expected, threshold=0.0, target_sizes=[SIZE, SIZE])
    worst_box = worst_score = 0.0
    for image, result in enumerate(results):
        # DETR's processor returns the best class of each query; ours all pairs.
        best = result["scores"].argsort(descending=True)[: 5 if name == "detr" else QUERIES]
        same = result["labels"][best][:, None] == detections.labels[image] - 1  # [theirs, ours]
        gaps = torch.cdist(result["boxes"][best], detections.boxes_xyxy[image], p=torch.inf)
        gaps, nearest = gaps.masked_fill(~same, torch.inf).min(dim=1)
        worst_box = max(worst_box, float(gaps.max()) / max(SIZE))
        score_gaps = (detections.scores[image][nearest] - result["scores"][best]).abs()
        worst_score = max(worst_score, float(score_gaps.max()))
    assert float(detections.scores.std()) > 1e-4
    record_property("boxes", f"{worst_box:.1e}")
    record_property("scores", f"{worst_score:.1e}")
    assert worst_box < TOLERANCE
    assert worst_score < TOLERANCE


@EACH_ARCHITECTURE
def test_training_losses_equal_the_reference(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Record
) -> None:
    theirs = publish(name, tmp_path, monkeypatch).train()
    model, (images, targets) = load_published(name).train(), images_and_targets()
    labels = [
        {
            "class_labels": numbers[numbers > 0] - 1,
            "boxes": box_convert(boxes[numbers > 0], "xyxy", "cxcywh") / 128,
        }
        for numbers, boxes in zip(targets.labels, targets.boxes_xyxy, strict=True)
    ]
    torch.manual_seed(3)
    own = torch.stack(list(model(images, targets).losses.values())).sum()
    torch.manual_seed(3)
    expected = theirs(pixel_values=model.normalize(images), labels=labels).loss
    record_property("losses", f"{abs(own.item() / expected.item() - 1):.1e}")
    assert own.item() == pytest.approx(expected.item(), rel=TOLERANCE)


@EACH_ARCHITECTURE
def test_normalization_is_that_of_the_processor(name: str, record_property: Record) -> None:
    processor = make_processor(name)
    mean, std = (processor.image_mean, processor.image_std) if processor.do_normalize else ((0,) * 3, (1,) * 3)
    statistics = ARCHITECTURES[name].coco_statistics
    assert processor.rescale_factor == 1 / 255
    for own, expected in ((statistics.mean, mean), (statistics.std, std)):
        assert own == pytest.approx([value * 255 for value in expected], abs=0.5)
    record_property("normalization", f"`{type(processor).__name__}`")


@pytest.mark.parametrize("name", ["detr", "deformable_detr"])
def test_padding_is_masked_in_training_and_evaluation(name: str) -> None:
    """Whatever color the padding has."""
    torch.manual_seed(0)
    model = build(name).eval()
    images, targets = images_and_targets()
    targets = targets._replace(content=torch.tensor([[96.0, 128.0], [128.0, 90.0]]))
    fill = model.normalize.mean[0].to(torch.uint8)
    padded = images.clone()
    padded[0, :, 96:], padded[1, :, :, 90:] = fill, fill
    with torch.no_grad():
        letterboxed, measured = model(padded, targets), model(padded)
        # The color of the padding reaches the content through the backbone only, and no attention.
        masks = []
        handle = model.network.register_forward_pre_hook(
            lambda _, __, inputs: masks.append(inputs["pixel_mask"]), with_kwargs=True
        )
        model(padded), model(images, targets), model.train()(images, targets)
        handle.remove()
    assert torch.equal(letterboxed.detections.boxes_xyxy, measured.detections.boxes_xyxy)
    for mask in masks:
        assert mask.sum((1, 2)).tolist() == [96 * 128, 128 * 90]
        assert mask[0, :96].all()
        assert mask[1, :, :90].all()


def test_absent_objects_are_no_labels() -> None:
    boxes = torch.tensor([[[0, 0, 64, 32.0], [32, 32, 64, 64], [0, 0, 0, 0]]])
    targets = whole_image_targets(boxes, torch.tensor([[2, 1, 0]]), torch.tensor([[1, 2, 0]]), (64, 64))
    (labels,) = make_labels(targets, targets.content, StateHead(4, STATES))
    assert labels["class_labels"].tolist() == [1]
    assert labels["boxes"].tolist() == [[0.5, 0.25, 1.0, 0.5]]
    assert len(make_labels(targets, targets.content, None)[0]["boxes"]) == 2


@EACH_FAMILY
@pytest.mark.parametrize("objects", [0, 2])
def test_every_parameter_gets_a_gradient_in_every_step(name: str, objects: int) -> None:
    """As distributed training requires; lower precision ends at the outputs."""
    torch.manual_seed(0)
    model = build(name, states=STATES).train()
    use_precision(model, torch.device("cpu"), "bf16")
    images, targets = images_and_targets()
    boxes, labels = targets.boxes_xyxy[:, :objects], targets.labels[:, :objects]
    targets = Targets(boxes, labels, labels.clamp(max=2), targets.content)
    total = torch.stack(list(model(images, targets).losses.values())).sum()
    assert total.isfinite()
    assert total.dtype == torch.float32
    total.backward()
    assert not [key for key, value in model.named_parameters() if value.requires_grad and value.grad is None]
    with torch.no_grad():
        assert model.eval()(images, targets).detections.scores.dtype == torch.float32


@EACH_FAMILY
def test_a_step_is_bit_identical_when_repeated(name: str) -> None:
    """With deterministic kernels, as in training; the random numbers of denoising are torch's own."""
    images, targets = images_and_targets()
    torch.use_deterministic_algorithms(True)
    gradients = []
    try:
        for _ in range(2):
            torch.manual_seed(0)
            model = build(name).train()
            torch.stack(list(model(images, targets).losses.values())).sum().backward()
            gradients.append([value.grad for value in model.parameters() if value.grad is not None])
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))


@EACH_FAMILY
def test_the_backbone_has_its_own_learning_rate(name: str) -> None:
    recipe, model = MODELS[name].recipe, build(name)
    rates = {group["lr"] for group in make_optimizer(model, recipe).param_groups}
    assert rates == {recipe.lr, recipe.lr * recipe.backbone_lr_factor}
    assert (
        sum(value.numel() for value in model.backbone.parameters())
        > 0.1 * sum(value.numel() for value in model.parameters()) / 10
    )


@EACH_FAMILY
def test_weights_of_a_fine_tuned_model_load_into_one_from_scratch(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(name, tmp_path, monkeypatch)
    model, other = load_published(name), build(name).eval()
    other.load_state_dict(model.state_dict())
    images, _ = images_and_targets()
    with torch.no_grad():
        own, loaded = (net(images).detections for net in (model, other))
    assert torch.allclose(own.scores, loaded.scores, atol=1e-5)


@pytest.mark.long
@EACH_FAMILY
def test_fits_a_few_images(name: str) -> None:
    torch.manual_seed(0)
    model = build(name, classes=2)
    images = torch.randint(90, 120, (2, 3, *SIZE), dtype=torch.uint8)
    images[0, 0, 10:60, 20:80] = images[1, 1, 30:90, 50:120] = 250
    boxes = torch.tensor([[[20, 10, 80, 60.0]], [[50, 30, 120, 90]]])
    targets = whole_image_targets(boxes, torch.tensor([[1], [2]]), None, SIZE)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-4)
    totals = []
    for _ in range(40):
        total = torch.stack(list(model.train()(images, targets).losses.values())).sum()
        optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10)
        optimizer.step()
        totals.append(total.item())
    assert totals[-1] < 0.7 * totals[0]
