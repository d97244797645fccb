"""Offsets, matching and sampling of anchor-based models."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.ops import box_iou

from detector.engine.structures import Targets
from detector.models.anchors import decode, encode, match, sample

WEIGHTS = (10.0, 10.0, 5.0, 5.0)


def boxes(count: int, seed: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * 100
    return torch.cat([corner, corner + 4 + torch.rand(count, 2, generator=generator) * 50], dim=1)


def test_offsets_round_trip_and_are_torchvisions() -> None:
    anchors, wanted = boxes(50, 0), boxes(50, 1)
    offsets = encode(wanted, anchors, WEIGHTS)
    assert torch.allclose(offsets, BoxCoder(WEIGHTS).encode_single(wanted, anchors), atol=1e-4)
    assert torch.allclose(decode(offsets, anchors, WEIGHTS), wanted, atol=1e-3)


def test_huge_offsets_do_not_overflow() -> None:
    assert decode(torch.full((1, 4), 1e4), boxes(1, 0), (1.0, 1.0, 1.0, 1.0)).isfinite().all()


@pytest.mark.parametrize(("low", "high", "keep_best"), [(0.3, 0.7, True), (0.5, 0.5, False), (0.4, 0.5, True)])
def test_matching_is_torchvisions(low: float, high: float, keep_best: bool) -> None:
    anchors, objects = boxes(200, 2), boxes(6, 3)
    expected = Matcher(high, low, allow_low_quality_matches=keep_best)(box_iou(objects, anchors))
    targets = Targets(objects[None], torch.ones(1, 6).long(), torch.zeros(1, 6).long())
    assert torch.equal(match(anchors, targets, low, high, keep_best)[0], expected)


def test_padding_and_empty_images_match_nothing() -> None:
    anchors = boxes(20, 4)
    padded = Targets(torch.zeros(2, 3, 4), torch.zeros(2, 3).long(), torch.zeros(2, 3).long())
    assert (match(anchors, padded, 0.3, 0.7, keep_best=True) == -1).all()
    empty = Targets(torch.zeros(2, 0, 4), torch.zeros(2, 0).long(), torch.zeros(2, 0).long())
    assert match(anchors, empty, 0.3, 0.7, keep_best=True).shape == (2, 20)


def test_sampling_keeps_the_numbers() -> None:
    matched = torch.tensor([[0] * 10 + [-1] * 50 + [-2] * 40, [-1] * 100])
    positive, negative = sample(matched, 16, 0.25)
    assert positive.sum(1).tolist() == [4, 0]
    assert negative.sum(1).tolist() == [12, 16]
    assert (matched[positive] >= 0).all()
    assert (matched[negative] == -1).all()
