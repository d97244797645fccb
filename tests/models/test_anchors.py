"""Box encoding, matching and sampling of anchor-based models, against torchvision."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.ops import box_iou

from detector.engine.structures import Targets
from detector.models.anchors import decode_offsets, encode_boxes, match_anchors, sample_balanced

WEIGHTS = (10.0, 10.0, 5.0, 5.0)


def random_boxes(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 100
    return torch.cat([corner, corner + 4 + torch.rand(count, 2, generator=generator) * 50], dim=1)


def test_offsets_round_trip_and_match_torchvision() -> None:
    anchors, true_boxes = random_boxes(50, 0), random_boxes(50, 1)
    offsets = encode_boxes(true_boxes, anchors, WEIGHTS)
    assert torch.allclose(offsets, BoxCoder(WEIGHTS).encode_single(true_boxes, anchors), atol=1e-4)
    assert torch.allclose(decode_offsets(offsets, anchors, WEIGHTS), true_boxes, atol=1e-3)


def test_huge_offsets_do_not_overflow() -> None:
    assert decode_offsets(torch.full((1, 4), 1e4), random_boxes(1, 0), (1.0, 1.0, 1.0, 1.0)).isfinite().all()


@pytest.mark.parametrize(
    ("background_iou", "object_iou", "allow_low_quality_matches"),
    [(0.3, 0.7, True), (0.5, 0.5, False), (0.4, 0.5, True)],
)
def test_matching_equals_torchvision(background_iou: float, object_iou: float, allow_low_quality_matches: bool) -> None:
    anchors, objects = random_boxes(200, 2), random_boxes(6, 3)
    expected = Matcher(object_iou, background_iou, allow_low_quality_matches=allow_low_quality_matches)(
        box_iou(objects, anchors)
    )
    targets = Targets(objects[None], torch.ones(1, 6).long(), torch.zeros(1, 6).long())
    assert torch.equal(
        match_anchors(anchors, targets, background_iou, object_iou, allow_low_quality_matches)[0], expected
    )


def test_padding_and_empty_images_match_nothing() -> None:
    anchors = random_boxes(20, 4)
    padded = Targets(torch.zeros(2, 3, 4), torch.zeros(2, 3).long(), torch.zeros(2, 3).long())
    assert (match_anchors(anchors, padded, 0.3, 0.7, allow_low_quality_matches=True) == -1).all()
    empty = Targets(torch.zeros(2, 0, 4), torch.zeros(2, 0).long(), torch.zeros(2, 0).long())
    assert match_anchors(anchors, empty, 0.3, 0.7, allow_low_quality_matches=True).shape == (2, 20)


def test_sampling_respects_count_and_positive_fraction() -> None:
    matched = torch.tensor([[0] * 10 + [-1] * 50 + [-2] * 40, [-1] * 100])
    positive, negative = sample_balanced(matched, 16, 0.25)
    assert positive.sum(1).tolist() == [4, 0]
    assert negative.sum(1).tolist() == [12, 16]
    assert (matched[positive] >= 0).all()
    assert (matched[negative] == -1).all()
