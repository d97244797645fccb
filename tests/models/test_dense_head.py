"""The dense head before training: what the first steps start from."""

from __future__ import annotations

import pytest
import torch

from detector.models.assignment import assign_task_aligned
from detector.models.dense_head import OBJECT_PROBABILITY, DenseHead, decode_box_logits, make_locations
from detector.models.dense_loss import dense_loss
from detector.models.state_head import StateConfig
from tests.support.targets import whole_image_targets

STRIDES = (8, 16, 32)
SIZES = [(40, 40), (20, 20), (10, 10)]


def compute_losses(classes: int) -> dict[str, float]:
    """Initial losses of one object."""
    targets = whole_image_targets(torch.tensor([[[100.0, 100, 180, 160]]]), torch.tensor([[1]]), None, (320, 320))
    centers, strides = make_locations(SIZES, STRIDES, torch.device("cpu"))
    outputs = build_head(classes)([torch.zeros(1, 16, *size) for size in SIZES])
    return {name: loss.item() for name, loss in dense_loss(outputs, centers, strides, targets, None).items()}


def build_head(classes: int) -> DenseHead:
    torch.manual_seed(0)
    return DenseHead(16, classes, STRIDES, StateConfig()).eval()


@pytest.mark.parametrize("classes", [1, 6, 80])
def test_initial_probabilities_of_all_classes_add_up_to_that_of_an_object(classes: int) -> None:
    bias = build_head(classes).class_logits.bias
    assert bias is not None
    assert bias.sigmoid().sum().item() == pytest.approx(OBJECT_PROBABILITY)


def test_many_classes_hardly_raise_the_initial_class_loss() -> None:
    one, many = (compute_losses(classes)["loss_cls"] for classes in (1, 80))
    assert one < many < 2 * one


def test_the_state_loss_is_that_of_the_locations_with_an_object() -> None:
    torch.manual_seed(0)
    states = StateConfig((True, False, True), (1.0, 2.0, 0.5), 1.5)
    head = DenseHead(16, 2, STRIDES, states).eval()
    outputs = head([torch.rand(1, 16, *size) for size in SIZES])
    boxes = torch.tensor([[[100.0, 100, 180, 160]]])
    targets = whole_image_targets(boxes, torch.tensor([[1]]), torch.tensor([[2]]), (320, 320))
    centers, strides = make_locations(SIZES, STRIDES, torch.device("cpu"))
    loss = dense_loss(outputs, centers, strides, targets, head.states)["loss_state"]
    assert head.states is not None
    assert outputs.states is not None
    assignment = assign_task_aligned(
        decode_box_logits(outputs.boxes, centers, strides), outputs.classes.sigmoid(), centers, targets
    )
    found = outputs.states[assignment.quality > 0]
    assert len(found) > 1
    assert torch.allclose(loss, head.states.loss(found, torch.full((len(found),), 2)))
