"""Box encoding, matching and sampling of anchor-based models, against torchvision."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.detection._utils import BoxCoder, Matcher, SSDMatcher
from torchvision.ops import box_iou

from detector.models.anchors import decode_offsets, encode_boxes, match_anchors, match_default_boxes, sample_balanced
from tests.support.targets import no_targets, whole_image_targets

WEIGHTS = (10.0, 10.0, 5.0, 5.0)
SIZE = (160, 160)  # of the images


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
    targets = whole_image_targets(objects[None], torch.ones(1, 6).long(), None, SIZE)
    assert torch.equal(
        match_anchors(anchors, targets, background_iou, object_iou, allow_low_quality_matches)[0], expected
    )


def test_padding_and_empty_images_match_nothing() -> None:
    anchors = random_boxes(20, 4)
    padded = no_targets(2, SIZE, objects=3)
    assert (match_anchors(anchors, padded, 0.3, 0.7, allow_low_quality_matches=True) == -1).all()
    assert (match_default_boxes(anchors, padded, 0.5) == -1).all()
    empty = no_targets(2, SIZE)
    assert match_anchors(anchors, empty, 0.3, 0.7, allow_low_quality_matches=True).tolist() == [[-1] * 20] * 2
    assert match_default_boxes(anchors, empty, 0.5).tolist() == [[-1] * 20] * 2


@pytest.mark.parametrize("objects", [1, 6, 40])
def test_default_boxes_are_matched_as_in_torchvision(objects: int) -> None:
    """Of 40 objects some have the same best anchor; every object overlaps the first one."""
    anchors = torch.cat([torch.tensor([[0.0, 0, *SIZE]]), random_boxes(60, 2)])
    boxes = torch.stack([random_boxes(objects, seed) for seed in (3, 4)])
    boxes[1, objects // 2 :] = 0  # padding
    labels = (boxes[..., 2] > 0).long()
    matched = match_default_boxes(anchors, whole_image_targets(boxes, labels, None, SIZE), 0.5)
    for image, real in enumerate(labels > 0):
        if real.any():
            assert torch.equal(matched[image], SSDMatcher(0.5)(box_iou(boxes[image, real], anchors)))


def test_an_object_keeps_its_best_default_box() -> None:
    """The first anchor overlaps the large object more, but it is the best one of the small object."""
    anchors = torch.tensor([[0.0, 0, 20, 20], [4, 0, 24, 20]])
    boxes = torch.tensor([[[0.0, 0, 8, 8], [3, 0, 23, 20]]])
    targets = whole_image_targets(boxes, torch.tensor([[1, 2]]), None, SIZE)
    assert match_anchors(anchors, targets, 0.5, 0.5, allow_low_quality_matches=True).tolist() == [[1, 1]]
    assert match_default_boxes(anchors, targets, 0.5).tolist() == [[0, 1]]


def test_sampling_respects_count_and_positive_fraction() -> None:
    matched = torch.tensor([[0] * 10 + [-1] * 50 + [-2] * 40, [-1] * 100])
    positive, negative = sample_balanced(matched, 16, 0.25)
    assert positive.sum(1).tolist() == [4, 0]
    assert negative.sum(1).tolist() == [12, 16]
    assert (matched[positive] >= 0).all()
    assert (matched[negative] == -1).all()
