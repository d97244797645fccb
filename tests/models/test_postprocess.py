"""The fixed-size postprocess against torchvision's greedy NMS."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.ops import batched_nms, box_iou

from detector.models.postprocess import Candidates, Postprocess, area_xyxy, batched_nms_mask, pairwise_iou_xyxy, select


def random_boxes(generator: torch.Generator, count: int, spread: float) -> torch.Tensor:
    corner = torch.rand(count, 2, generator=generator) * spread
    return torch.cat([corner, corner + 5 + torch.rand(count, 2, generator=generator) * 40], dim=1)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 80), st.integers(1, 3), st.floats(0.1, 0.9), st.floats(1, 200))
def test_nms_keeps_what_greedy_nms_keeps(seed: int, count: int, groups: int, iou: float, spread: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    boxes = random_boxes(generator, count, spread)
    scores = torch.rand(count, generator=generator).sort(descending=True).values
    labels = torch.randint(groups, (count,), generator=generator)
    expected = torch.zeros(count, dtype=torch.bool)
    expected[batched_nms(boxes, scores, labels, iou)] = True
    assert torch.equal(batched_nms_mask(boxes[None], labels[None], iou)[0], expected)


def test_nms_follows_a_chain_of_suppressions() -> None:
    # Each box overlaps only its neighbours: greedy NMS keeps every other one.
    left = torch.arange(10.0) * 4
    boxes = torch.stack([left, torch.zeros(10), left + 10, torch.full((10,), 10.0)], dim=1)
    keep = batched_nms_mask(boxes[None], torch.zeros(1, 10), 0.4)[0]
    assert keep.tolist() == [True, False] * 5


def test_batch_changes_nothing() -> None:
    generator = torch.Generator().manual_seed(3)
    boxes = torch.stack([random_boxes(generator, 60, 90) for _ in range(4)])
    scores = torch.rand(4, 60, 3, generator=generator)
    postprocess = Postprocess(score_threshold=0.2, nms_iou=0.5, max_detections=20)
    together = postprocess(boxes, scores)
    for image in range(4):
        alone = postprocess(boxes[image : image + 1], scores[image : image + 1])
        for whole, part in zip(together, alone, strict=True):
            assert torch.equal(whole[image], part[0])


def test_class_specific_boxes() -> None:
    boxes = torch.tensor([[[[0.0, 0, 10, 10], [50, 50, 70, 70]]]])  # one location, two classes
    found = Postprocess(score_threshold=0.1)(boxes, torch.tensor([[[0.3, 0.9]]]))
    assert found.labels[0, :2].tolist() == [2, 1]
    assert found.boxes_xyxy[0, :2].tolist() == [[50, 50, 70, 70], [0, 0, 10, 10]]


@pytest.mark.parametrize("classes", [1, 3])
def test_nothing_above_the_threshold_is_all_zeros(classes: int) -> None:
    found = Postprocess(score_threshold=0.5, max_detections=7)(torch.rand(2, 4, 4), torch.full((2, 4, classes), 0.4))
    assert found.boxes_xyxy.shape == (2, 7, 4)
    assert found.counts.tolist() == [0, 0]
    assert all(not part.any() for part in found)


def test_fewer_candidates_than_detections_are_padded() -> None:
    scores, labels = torch.tensor([[0.2, 0.7]]), torch.tensor([[1, 2]])
    found = select(Candidates(torch.ones(1, 2, 4), scores, labels, labels + 1, scores / 2), 5)
    assert found.scores.tolist() == [[pytest.approx(0.7), pytest.approx(0.2), 0, 0, 0]]
    assert found.labels.tolist() == [[2, 1, 0, 0, 0]]
    assert found.states.tolist() == [[3, 2, 0, 0, 0]]
    assert found.state_scores.tolist() == [[pytest.approx(0.35), pytest.approx(0.1), 0, 0, 0]]
    assert found.counts.tolist() == [2]


def test_overlaps_are_torchvisions() -> None:
    generator = torch.Generator().manual_seed(0)
    first, second = random_boxes(generator, 5, 50), random_boxes(generator, 8, 50)
    assert torch.allclose(pairwise_iou_xyxy(first[None], second[None])[0], box_iou(first, second))
    assert area_xyxy(torch.tensor([[3.0, 3, 1, 1]])).item() == 0


def test_without_nms_takes_the_best_pairs_and_pads() -> None:
    boxes = torch.tensor([[[0, 0, 9, 9], [0, 0, 9, 8.0]]])
    scores = torch.tensor([[[0.9, 0.02, 0.3], [0.8, 0.7, 0.005]]])
    states = torch.tensor([[[1.0, 0], [0, 2]]])
    found = Postprocess(0.01, 0.5, 7).without_nms(boxes, scores, states)
    assert found.counts.tolist() == [5]
    assert torch.allclose(found.scores, torch.tensor([[0.9, 0.8, 0.7, 0.3, 0.02, 0, 0]]))
    assert found.labels.tolist() == [[1, 1, 2, 3, 2, 0, 0]]
    assert found.states.tolist() == [[1, 2, 2, 1, 1, 0, 0]]
    assert found.boxes_xyxy[0, :, 3].tolist() == [9, 8, 8, 9, 9, 0, 0]
    best = Postprocess(0.01, 0.5, 2).without_nms(boxes, scores, states)
    assert best.labels.tolist() == [[1, 1]]
