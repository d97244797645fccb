"""Hungarian matching of queries and objects, and the losses of the matches."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import box_convert, generalized_box_iou

from detector.engine.structures import Targets
from detector.models.hungarian import (
    MatchIndices,
    SetTargets,
    box_losses,
    count_objects,
    denormalize_boxes,
    gather_target_states,
    hungarian_match,
    make_set_targets,
    state_loss,
)
from detector.models.state_head import StateConfig, StateHead


def random_boxes(generator: torch.Generator, *shape: int) -> torch.Tensor:
    """Relative boxes cxcywh within 0..1."""
    return torch.rand(*shape, 4, generator=generator) * 0.4 + 0.1


def random_set_targets(generator: torch.Generator, labels: list[list[int]]) -> SetTargets:
    numbers = torch.tensor(labels).reshape(len(labels), -1)
    return SetTargets(random_boxes(generator, *numbers.shape), numbers, torch.ones_like(numbers))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), min_size=1, max_size=3))
def test_no_matching_is_cheaper(seed: int, labels: list[list[int]]) -> None:
    generator = torch.Generator().manual_seed(seed)
    set_targets, boxes = random_set_targets(generator, labels), random_boxes(generator, len(labels), 4)
    class_cost = torch.rand(len(labels), 4, 3, generator=generator)
    matches = hungarian_match(boxes, class_cost, set_targets)
    assert matches.row.tolist() == sorted(matches.row.tolist())
    for row, numbers in enumerate(labels):
        corners = [box_convert(part[row], "cxcywh", "xyxy") for part in (boxes, set_targets.boxes_cxcywh)]
        distance = (boxes[row][:, None] - set_targets.boxes_cxcywh[row][None]).abs().sum(-1)
        cost = 5 * distance - 2 * generalized_box_iou(*corners)  # [4, 3]
        real = [index for index, label in enumerate(numbers) if label > 0]

        def total(queries: tuple[int, ...]) -> float:
            pairs = zip(queries, real, strict=True)  # noqa: B023
            return sum(float(cost[q, m] + class_cost[row, q, numbers[m] - 1]) for q, m in pairs)  # noqa: B023

        own = matches.row == row
        assert sorted(matches.object[own].tolist()) == real
        by_object = dict(zip(matches.object[own].tolist(), matches.query[own].tolist(), strict=True))
        cheapest = min(total(queries) for queries in itertools.permutations(range(4), len(real)))
        assert total(tuple(by_object[m] for m in real)) == pytest.approx(cheapest, abs=1e-4)


@pytest.mark.parametrize("objects", [0, 2])
def test_matching_without_objects(objects: int) -> None:
    set_targets = random_set_targets(torch.Generator(), [[0] * objects] * 3)
    matches = hungarian_match(torch.full((3, 5, 4), 0.5), torch.zeros(3, 5, 2), set_targets)
    assert [len(column) for column in matches] == [0, 0, 0]
    losses = box_losses(torch.full((3, 5, 4), 0.5, requires_grad=True), set_targets, matches, None)
    assert {name: float(loss.detach()) for name, loss in losses.items()} == {"loss_bbox": 0, "loss_giou": 0}
    assert all(loss.requires_grad for loss in losses.values())


def test_matches_more_objects_than_queries_and_non_finite_predictions() -> None:
    set_targets = random_set_targets(torch.Generator().manual_seed(0), [[1, 1, 1]])
    assert len(hungarian_match(torch.full((1, 2, 4), 0.5), torch.zeros(1, 2, 1), set_targets).query) == 2
    broken = torch.tensor([[[torch.nan] * 4, [0.5] * 4, [torch.inf] * 4, [0.2] * 4]])
    assert len(hungarian_match(broken, torch.full((1, 4, 1), torch.nan), set_targets).query) == 3


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(0, 4), st.integers(1, 3), st.booleans())
def test_relative_boxes_and_pixels_round_trip(seed: int, batch: int, objects: int, layers: int, one_size: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    size = torch.rand(1 if one_size else batch, 2, generator=generator) * 500 + 20
    corner = torch.rand(batch, objects, 2, generator=generator) * 50
    boxes_xyxy = torch.cat([corner, corner + 1 + torch.rand(batch, objects, 2, generator=generator) * 100], -1)
    labels = torch.ones(batch, objects, dtype=torch.int64)
    set_targets = make_set_targets(Targets(boxes_xyxy, labels, labels), size, layers)
    assert set_targets.boxes_cxcywh.shape == (layers * batch, objects, 4)
    for layer in set_targets.boxes_cxcywh.split(batch):
        assert torch.allclose(denormalize_boxes(layer, size), boxes_xyxy, atol=1e-3)
        width = (boxes_xyxy[..., 2] - boxes_xyxy[..., 0]) / size[:, 1:]
        assert torch.allclose(layer[..., 2], width, atol=1e-5)


def test_the_object_count_is_at_least_one() -> None:
    labels = torch.tensor([[1, 2, 0], [3, 0, 0]])
    assert count_objects(Targets(torch.zeros(2, 3, 4), labels, labels)).item() == 3
    assert count_objects(Targets(torch.zeros(2, 0, 4), labels[:, :0], labels[:, :0])).item() == 1


def test_state_loss_is_of_the_last_layer_and_box_losses_of_present_objects() -> None:
    torch.manual_seed(0)
    head = StateHead(4, StateConfig(present=(True, False), weights=(1.0, 1.0), loss_weight=1.0))
    generator = torch.Generator().manual_seed(0)
    set_targets = random_set_targets(generator, [[1, 1]] * 4)._replace(
        states=torch.tensor([[1, 2]] * 4)
    )  # 2 layers of 2 images
    boxes = random_boxes(generator, 4, 5)
    matches = MatchIndices(torch.tensor([0, 1, 2, 2]), torch.tensor([0, 1, 2, 3]), torch.tensor([0, 0, 1, 0]))
    present = MatchIndices(*(column[[0, 1, 3]] for column in matches))  # object 1 is in state 2, which is not present
    with_states, without = box_losses(boxes, set_targets, matches, head), box_losses(boxes, set_targets, present, None)
    assert all(torch.equal(with_states[name], without[name]) for name in ("loss_bbox", "loss_giou"))
    logits = torch.randn(2, 5, 2, generator=generator)
    assert torch.equal(
        state_loss(logits, set_targets, matches, head), head.loss(logits[0, [2, 3]], torch.tensor([2, 1]))
    )


def test_target_states_come_from_the_best_fitting_query() -> None:
    boxes = torch.tensor([[[0, 0, 10, 10], [20, 20, 40, 40], [20, 20, 41, 41], [20, 20, 41, 41.0]]])
    true_boxes = torch.tensor([[[21, 20, 41, 40.0], [11, 11, 12, 12], [0, 0, 0, 0]]])
    targets = Targets(true_boxes, torch.tensor([[1, 1, 0]]), torch.zeros(1, 3, dtype=torch.int64))
    logits = torch.arange(8.0).reshape(1, 4, 2)
    states = gather_target_states(boxes, logits, targets)
    assert states is not None
    assert states[0, 0].tolist() == [4, 5]  # the first of two that fit equally well
    assert states[0, 1].tolist() == [0, 1]  # the nearest one, since nothing overlaps
    assert states.shape == (1, 3, 2)
    none = Targets(*(part[:, :0] for part in targets))
    assert gather_target_states(boxes, logits, none).shape == (1, 0, 2)  # type: ignore[union-attr]
    assert gather_target_states(boxes, None, targets) is None
    assert gather_target_states(boxes, logits, None) is None
