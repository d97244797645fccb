"""Hungarian matching of queries and objects, the state loss of the matches, and relative boxes."""

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
    denormalize_boxes,
    gather_target_states,
    hungarian_match,
    normalize_boxes,
    state_loss,
)
from detector.models.state_head import StateConfig, StateHead
from tests.support.targets import no_targets, whole_image_targets

SIZE = torch.tensor([[100.0, 100.0]])


def random_boxes(generator: torch.Generator, *shape: int) -> torch.Tensor:
    """Relative boxes cxcywh within 0..1."""
    return torch.rand(*shape, 4, generator=generator) * 0.4 + 0.1


def random_targets(generator: torch.Generator, labels: list[list[int]]) -> Targets:
    numbers = torch.tensor(labels).reshape(len(labels), -1)
    boxes = denormalize_boxes(random_boxes(generator, *numbers.shape), SIZE)
    return whole_image_targets(boxes, numbers, torch.ones_like(numbers), (100, 100))


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), min_size=1, max_size=3))
def test_no_matching_is_cheaper(seed: int, labels: list[list[int]]) -> None:
    generator = torch.Generator().manual_seed(seed)
    targets, boxes = random_targets(generator, labels), random_boxes(generator, len(labels), 4)
    scores = torch.rand(len(labels), 4, 3, generator=generator)
    matches = hungarian_match(scores, boxes, targets, SIZE)
    assert matches.image.tolist() == sorted(matches.image.tolist())
    true_boxes = normalize_boxes(targets.boxes_xyxy, SIZE)
    for image, numbers in enumerate(labels):
        corners = [box_convert(part[image], "cxcywh", "xyxy") for part in (boxes, true_boxes)]
        distance = (boxes[image][:, None] - true_boxes[image][None]).abs().sum(-1)
        cost = 5 * distance - 2 * generalized_box_iou(*corners)  # [4, 3]
        real = [index for index, label in enumerate(numbers) if label > 0]

        def total(queries: tuple[int, ...]) -> float:
            pairs = zip(queries, real, strict=True)  # noqa: B023
            return sum(float(cost[q, m] - scores[image, q, numbers[m] - 1]) for q, m in pairs)  # noqa: B023

        own = matches.image == image
        assert sorted(matches.object[own].tolist()) == real
        by_object = dict(zip(matches.object[own].tolist(), matches.query[own].tolist(), strict=True))
        cheapest = min(total(queries) for queries in itertools.permutations(range(4), len(real)))
        assert total(tuple(by_object[m] for m in real)) == pytest.approx(cheapest, abs=1e-4)


@pytest.mark.parametrize("objects", [0, 2])
def test_matching_without_objects(objects: int) -> None:
    targets = random_targets(torch.Generator(), [[0] * objects] * 3)
    matches = hungarian_match(torch.zeros(3, 5, 2), torch.full((3, 5, 4), 0.5), targets, SIZE)
    assert [len(column) for column in matches] == [0, 0, 0]


def test_matches_more_objects_than_queries_and_non_finite_predictions() -> None:
    targets = random_targets(torch.Generator().manual_seed(0), [[1, 1, 1]])
    assert len(hungarian_match(torch.zeros(1, 2, 1), torch.full((1, 2, 4), 0.5), targets, SIZE).query) == 2
    broken = torch.tensor([[[torch.nan] * 4, [0.5] * 4, [torch.inf] * 4, [0.2] * 4]])
    assert len(hungarian_match(torch.full((1, 4, 1), torch.nan), broken, targets, SIZE).query) == 3


@settings(max_examples=40)
@given(st.integers(0, 10**6), st.integers(1, 3), st.integers(0, 4), st.booleans())
def test_relative_boxes_and_pixels_round_trip(seed: int, batch: int, objects: int, one_size: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    size = torch.rand(1 if one_size else batch, 2, generator=generator) * 500 + 20
    corner = torch.rand(batch, objects, 2, generator=generator) * 50
    boxes_xyxy = torch.cat([corner, corner + 1 + torch.rand(batch, objects, 2, generator=generator) * 100], -1)
    boxes_cxcywh = normalize_boxes(boxes_xyxy, size)
    assert torch.allclose(denormalize_boxes(boxes_cxcywh, size), boxes_xyxy, atol=1e-3)
    width = (boxes_xyxy[..., 2] - boxes_xyxy[..., 0]) / size[:, 1:]
    assert torch.allclose(boxes_cxcywh[..., 2], width, atol=1e-5)


def test_the_state_loss_is_of_all_matches_also_with_absent_objects() -> None:
    torch.manual_seed(0)
    head = StateHead(4, StateConfig(present=(True, False), weights=(1.0, 1.0), loss_weight=1.0))
    states = torch.tensor([[1, 2], [2, 1]])
    targets = random_targets(torch.Generator(), [[1, 1], [1, 1]])._replace(states=states)
    matches = MatchIndices(torch.tensor([0, 0, 1]), torch.tensor([4, 1, 2]), torch.tensor([0, 1, 0]))
    logits = torch.randn(2, 5, 2)
    picked = torch.stack([logits[0, 4], logits[0, 1], logits[1, 2]])
    assert torch.equal(state_loss(logits, targets, matches, head), head.loss(picked, torch.tensor([1, 2, 2])))


def test_target_states_come_from_the_best_fitting_query() -> None:
    boxes = torch.tensor([[[0, 0, 10, 10], [20, 20, 40, 40], [20, 20, 41, 41], [20, 20, 41, 41.0]]])
    true_boxes = torch.tensor([[[21, 20, 41, 40.0], [11, 11, 12, 12], [0, 0, 0, 0]]])
    targets = whole_image_targets(true_boxes, torch.tensor([[1, 1, 0]]), None, (64, 64))
    logits = torch.arange(8.0).reshape(1, 4, 2)
    states = gather_target_states(boxes, logits, targets)
    assert states is not None
    assert states[0, 0].tolist() == [4, 5]  # the first of two that fit equally well
    assert states[0, 1].tolist() == [0, 1]  # the nearest one, since nothing overlaps
    assert states.shape == (1, 3, 2)
    none = no_targets(1, (64, 64))
    assert gather_target_states(boxes, logits, none).shape == (1, 0, 2)  # type: ignore[union-attr]
    assert gather_target_states(boxes, None, targets) is None
    assert gather_target_states(boxes, logits, None) is None
