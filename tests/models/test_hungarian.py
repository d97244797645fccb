"""Matching queries with objects, and what the pairs teach."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import box_convert, generalized_box_iou

from detector.engine.structures import Targets
from detector.models.hungarian import (
    Goals,
    Pairs,
    box_losses,
    goals_of,
    match,
    object_count,
    state_loss,
    states_of_objects,
    to_pixels,
)
from detector.models.state_head import StateHead, States


def random_shares(generator: torch.Generator, *shape: int) -> torch.Tensor:
    """Boxes cxcywh within 0..1."""
    return torch.rand(*shape, 4, generator=generator) * 0.4 + 0.1


def random_goals(generator: torch.Generator, labels: list[list[int]]) -> Goals:
    numbers = torch.tensor(labels).reshape(len(labels), -1)
    return Goals(random_shares(generator, *numbers.shape), numbers, torch.ones_like(numbers))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), min_size=1, max_size=3))
def test_no_assignment_is_cheaper(seed: int, labels: list[list[int]]) -> None:
    generator = torch.Generator().manual_seed(seed)
    goals, boxes = random_goals(generator, labels), random_shares(generator, len(labels), 4)
    class_cost = torch.rand(len(labels), 4, 3, generator=generator)
    pairs = match(boxes, class_cost, goals)
    assert pairs.row.tolist() == sorted(pairs.row.tolist())
    for row, numbers in enumerate(labels):
        corners = [box_convert(part[row], "cxcywh", "xyxy") for part in (boxes, goals.boxes_cxcywh)]
        distance = (boxes[row][:, None] - goals.boxes_cxcywh[row][None]).abs().sum(-1)
        cost = 5 * distance - 2 * generalized_box_iou(*corners)  # [4, 3]
        real = [place for place, label in enumerate(numbers) if label > 0]

        def total(queries: tuple[int, ...]) -> float:
            chosen = zip(queries, real, strict=True)  # noqa: B023
            return sum(float(cost[q, m] + class_cost[row, q, numbers[m] - 1]) for q, m in chosen)  # noqa: B023

        own = pairs.row == row
        assert sorted(pairs.object[own].tolist()) == real
        by_object = dict(zip(pairs.object[own].tolist(), pairs.query[own].tolist(), strict=True))
        cheapest = min(total(queries) for queries in itertools.permutations(range(4), len(real)))
        assert total(tuple(by_object[m] for m in real)) == pytest.approx(cheapest, abs=1e-4)


@pytest.mark.parametrize("objects", [0, 2])
def test_matching_nothing(objects: int) -> None:
    goals = random_goals(torch.Generator(), [[0] * objects] * 3)
    pairs = match(torch.full((3, 5, 4), 0.5), torch.zeros(3, 5, 2), goals)
    assert [len(column) for column in pairs] == [0, 0, 0]
    losses = box_losses(torch.full((3, 5, 4), 0.5, requires_grad=True), goals, pairs, None)
    assert {name: float(loss.detach()) for name, loss in losses.items()} == {"box": 0, "edge": 0}
    assert all(loss.requires_grad for loss in losses.values())


def test_more_objects_than_queries_and_broken_predictions_do_not_stop_the_matching() -> None:
    goals = random_goals(torch.Generator().manual_seed(0), [[1, 1, 1]])
    assert len(match(torch.full((1, 2, 4), 0.5), torch.zeros(1, 2, 1), goals).query) == 2
    broken = torch.tensor([[[torch.nan] * 4, [0.5] * 4, [torch.inf] * 4, [0.2] * 4]])
    assert len(match(broken, torch.full((1, 4, 1), torch.nan), goals).query) == 3


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(0, 4), st.integers(1, 3), st.booleans())
def test_shares_and_pixels(seed: int, batch: int, objects: int, layers: int, one_size: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    size = torch.rand(1 if one_size else batch, 2, generator=generator) * 500 + 20
    corner = torch.rand(batch, objects, 2, generator=generator) * 50
    boxes_xyxy = torch.cat([corner, corner + 1 + torch.rand(batch, objects, 2, generator=generator) * 100], -1)
    labels = torch.ones(batch, objects, dtype=torch.int64)
    goals = goals_of(Targets(boxes_xyxy, labels, labels), size, layers)
    assert goals.boxes_cxcywh.shape == (layers * batch, objects, 4)
    for layer in goals.boxes_cxcywh.split(batch):
        assert torch.allclose(to_pixels(layer, size), boxes_xyxy, atol=1e-3)
        width = (boxes_xyxy[..., 2] - boxes_xyxy[..., 0]) / size[:, 1:]
        assert torch.allclose(layer[..., 2], width, atol=1e-5)


def test_losses_are_divided_by_objects_and_never_by_zero() -> None:
    labels = torch.tensor([[1, 2, 0], [3, 0, 0]])
    assert object_count(Targets(torch.zeros(2, 3, 4), labels, labels)).item() == 3
    assert object_count(Targets(torch.zeros(2, 0, 4), labels[:, :0], labels[:, :0])).item() == 1


def test_only_the_last_layer_and_only_present_objects() -> None:
    torch.manual_seed(0)
    head = StateHead(4, States(present=(True, False), weights=(1.0, 1.0), loss_weight=1.0))
    generator = torch.Generator().manual_seed(0)
    goals = random_goals(generator, [[1, 1]] * 4)._replace(states=torch.tensor([[1, 2]] * 4))  # 2 layers of 2 images
    boxes = random_shares(generator, 4, 5)
    pairs = Pairs(torch.tensor([0, 1, 2, 2]), torch.tensor([0, 1, 2, 3]), torch.tensor([0, 0, 1, 0]))
    present = Pairs(*(column[[0, 1, 3]] for column in pairs))  # object 1 is in state 2, which is not present
    with_states, without = box_losses(boxes, goals, pairs, head), box_losses(boxes, goals, present, None)
    assert all(torch.equal(with_states[name], without[name]) for name in ("box", "edge"))
    logits = torch.randn(2, 5, 2, generator=generator)
    assert torch.equal(state_loss(logits, goals, pairs, head), head.loss(logits[0, [2, 3]], torch.tensor([2, 1])))


def test_states_come_from_the_query_that_fits_best() -> None:
    boxes = torch.tensor([[[0, 0, 10, 10], [20, 20, 40, 40], [20, 20, 41, 41], [20, 20, 41, 41.0]]])
    targets = Targets(
        torch.tensor([[[21, 20, 41, 40.0], [11, 11, 12, 12], [0, 0, 0, 0]]]),
        torch.tensor([[1, 1, 0]]), torch.zeros(1, 3, dtype=torch.int64),
    )  # fmt: skip
    logits = torch.arange(8.0).reshape(1, 4, 2)
    found = states_of_objects(boxes, logits, targets)
    assert found is not None
    assert found[0, 0].tolist() == [4, 5]  # of two that fit equally well, the first
    assert found[0, 1].tolist() == [0, 1]  # nothing overlaps: the nearest
    assert found.shape == (1, 3, 2)
    none = Targets(*(part[:, :0] for part in targets))
    assert states_of_objects(boxes, logits, none).shape == (1, 0, 2)  # type: ignore[union-attr]
    assert states_of_objects(boxes, None, targets) is None
    assert states_of_objects(boxes, logits, None) is None
