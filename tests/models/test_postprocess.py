"""The fixed-shape postprocessing against torchvision's greedy NMS."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import batched_nms, box_iou

from detector.models.postprocess import (
    Candidates,
    Postprocess,
    batched_nms_mask,
    box_area_xyxy,
    box_iou_xyxy,
    select_detections,
)


def random_boxes(generator: torch.Generator, count: int, spread: float) -> torch.Tensor:
    corner = torch.rand(count, 2, generator=generator) * spread
    return torch.cat([corner, corner + 5 + torch.rand(count, 2, generator=generator) * 40], dim=1)


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 80), st.integers(1, 3), st.floats(0.1, 0.9), st.floats(1, 200))
def test_nms_equals_greedy_nms(seed: int, count: int, groups: int, iou: float, spread: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    boxes = random_boxes(generator, count, spread)
    scores = torch.rand(count, generator=generator).sort(descending=True).values
    labels = torch.randint(groups, (count,), generator=generator)
    expected = torch.zeros(count, dtype=torch.bool)
    expected[batched_nms(boxes, scores, labels, iou)] = True
    assert torch.equal(batched_nms_mask(boxes[None], labels[None], iou, count)[0], expected)


def test_nms_resolves_a_chain_of_suppressions() -> None:
    # Each box overlaps only its neighbors, so greedy NMS keeps every other one.
    left = torch.arange(10.0) * 4
    boxes = torch.stack([left, torch.zeros(10), left + 10, torch.full((10,), 10.0)], dim=1)
    keep = batched_nms_mask(boxes[None], torch.zeros(1, 10), 0.4, 10)[0]
    assert keep.tolist() == [True, False] * 5


def test_results_do_not_depend_on_the_batch() -> None:
    generator = torch.Generator().manual_seed(3)
    boxes = torch.stack([random_boxes(generator, 60, 90) for _ in range(4)])
    scores = torch.rand(4, 60, 3, generator=generator)
    postprocess = Postprocess(score_threshold=0.2, nms_iou=0.5, max_detections=20)
    batched = postprocess(boxes, scores)
    for image in range(4):
        single = postprocess(boxes[image : image + 1], scores[image : image + 1])
        for column, single_column in zip(batched, single, strict=True):
            assert torch.equal(column[image], single_column[0])


def test_class_specific_boxes() -> None:
    boxes = torch.tensor([[[[0.0, 0, 10, 10], [50, 50, 70, 70]]]])  # one location, two classes
    detections = Postprocess(score_threshold=0.1)(boxes, torch.tensor([[[0.3, 0.9]]]))
    assert detections.labels[0, :2].tolist() == [2, 1]
    assert detections.boxes_xyxy[0, :2].tolist() == [[50, 50, 70, 70], [0, 0, 10, 10]]


def test_states_are_those_of_the_location_of_a_class_specific_box() -> None:
    boxes = torch.arange(2 * 2 * 4.0).reshape(1, 2, 2, 4)
    scores = torch.tensor([[[0.3, 0.2], [0.1, 0.9]]])
    state_logits = torch.tensor([[[0.0, 5], [7, 0]]])
    detections = Postprocess(score_threshold=0.15, nms_iou=0.99)(boxes, scores, state_logits)
    assert detections.counts.tolist() == [3]
    assert detections.boxes_xyxy[0, :3, 0].tolist() == [12, 0, 4]
    assert detections.states[0, :3].tolist() == [1, 2, 2]
    assert torch.allclose(detections.state_scores[0, :3], torch.tensor([7.0, 5, 5]).sigmoid())


@pytest.mark.parametrize("classes", [1, 3])
def test_without_scores_above_the_threshold_all_is_zero(classes: int) -> None:
    detections = Postprocess(score_threshold=0.5, max_detections=7)(
        torch.rand(2, 4, 4), torch.full((2, 4, classes), 0.4)
    )
    assert detections.boxes_xyxy.shape == (2, 7, 4)
    assert detections.counts.tolist() == [0, 0]
    assert all(not part.any() for part in detections)


def test_fewer_candidates_than_detections_are_padded() -> None:
    scores, labels = torch.tensor([[0.2, 0.7]]), torch.tensor([[1, 2]])
    state_logits = torch.tensor([[[0.0, 0, 0], [0, 1, 0], [0, 0, 9]]])
    detections = select_detections(
        Candidates(torch.ones(1, 2, 4), scores, labels, torch.tensor([[2, 0]])), state_logits, 5
    )
    assert detections.scores.tolist() == [[pytest.approx(0.7), pytest.approx(0.2), 0, 0, 0]]
    assert detections.labels.tolist() == [[2, 1, 0, 0, 0]]
    assert detections.states.tolist() == [[1, 3, 0, 0, 0]]
    assert torch.allclose(detections.state_scores[0], torch.tensor([1 / 3, 0.9998, 0, 0, 0]), atol=1e-4)
    assert detections.counts.tolist() == [2]


def test_iou_equals_torchvision() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = random_boxes(generator, 5, 50), random_boxes(generator, 8, 50)
    assert torch.allclose(box_iou_xyxy(first[None], second[None])[0], box_iou(first, second))
    assert box_area_xyxy(torch.tensor([[3.0, 3, 1, 1]])).item() == 0


def test_without_nms_selects_the_best_pairs_and_pads() -> None:
    boxes = torch.tensor([[[0, 0, 9, 9], [0, 0, 9, 8.0]]])
    scores = torch.tensor([[[0.9, 0.02, 0.3], [0.8, 0.7, 0.005]]])
    states = torch.tensor([[[1.0, 0], [0, 2]]])
    detections = Postprocess(0.01, 0.5, 7).select_without_nms(boxes, scores, states)
    assert detections.counts.tolist() == [5]
    assert torch.allclose(detections.scores, torch.tensor([[0.9, 0.8, 0.7, 0.3, 0.02, 0, 0]]))
    assert detections.labels.tolist() == [[1, 1, 2, 3, 2, 0, 0]]
    assert detections.states.tolist() == [[1, 2, 2, 1, 1, 0, 0]]
    assert detections.boxes_xyxy[0, :, 3].tolist() == [9, 8, 8, 9, 9, 0, 0]
    best = Postprocess(0.01, 0.5, 2).select_without_nms(boxes, scores, states)
    assert best.labels.tolist() == [[1, 1]]


def test_no_object_of_a_crowd_is_displaced_by_others() -> None:
    """100 objects, each found at 20 locations, the clearest of them everywhere with higher scores than the others."""
    left, top = (100.0 * torch.arange(10)).repeat(10), (100.0 * torch.arange(10)).repeat_interleave(10)
    corners = torch.stack([left, top], dim=1).repeat_interleave(20, dim=0)
    corners = corners + torch.rand(2000, 2, generator=torch.Generator().manual_seed(0)) * 4
    boxes = torch.cat([corners, corners + 50], dim=1)[None]
    scores = torch.linspace(1, 0.1, 2000)[None, :, None]
    detections = Postprocess(score_threshold=0.05, nms_iou=0.6, max_detections=100)(boxes, scores)
    found = (detections.boxes_xyxy[0, :, :2] / 100).floor()
    assert detections.counts.tolist() == [100]
    assert len(found.unique(dim=0)) == 100


def test_a_long_chain_of_suppressions() -> None:
    left = torch.arange(60.0) * 4
    boxes = torch.stack([left, torch.zeros(60), left + 10, torch.full((60,), 10.0)], dim=1)
    assert batched_nms_mask(boxes[None], torch.zeros(1, 60), 0.4, 60)[0].tolist() == [True, False] * 30
