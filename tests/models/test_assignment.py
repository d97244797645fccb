"""Task-aligned assignment of locations to boxes."""

from __future__ import annotations

import pytest
import torch

from detector.engine.structures import Targets
from detector.models.assignment import Assignment, assign_task_aligned
from detector.models.dense_head import make_locations
from detector.models.postprocess import box_iou_xyxy
from tests.support.targets import no_targets, whole_image_targets


def make_centers() -> torch.Tensor:
    centers, _ = make_locations([(8, 8)], (8,), torch.device("cpu"))
    return centers


def boxes_around(centers: torch.Tensor, half: float) -> torch.Tensor:
    return torch.cat([centers - half, centers + half], dim=1)[None]


def make_targets(boxes: list[list[float]], labels: list[int]) -> Targets:
    return whole_image_targets(torch.tensor([boxes]), torch.tensor([labels]), None, (64, 64))


def test_without_boxes_everything_is_background() -> None:
    centers = make_centers()
    empty = no_targets(1, (64, 64))
    assignment = assign_task_aligned(boxes_around(centers, 8), torch.full((1, 64, 2), 0.5), centers, empty)
    assert not assignment.quality.any()


def test_padding_gets_no_location() -> None:
    centers = make_centers()
    padded = make_targets([[8, 8, 40, 40], [0, 0, 0, 0]], [2, 0])
    assignment = assign_task_aligned(boxes_around(centers, 12), torch.full((1, 64, 2), 0.5), centers, padded)
    assert assignment.quality.any()
    assert assignment.box_index[assignment.quality > 0].unique().tolist() == [0]


def test_at_most_topk_locations_inside_the_box_are_assigned() -> None:
    centers = make_centers()
    box = [8.0, 8, 56, 56]
    assignment = assign_task_aligned(
        boxes_around(centers, 20), torch.full((1, 64, 1), 0.5), centers, make_targets([box], [1]), topk=4
    )
    assigned = centers[assignment.quality[0] > 0]
    assert 0 < len(assigned) <= 4
    assert ((assigned > 8) & (assigned < 56)).all()


def test_quality_of_the_best_location_is_the_highest_iou_of_the_box() -> None:
    centers = make_centers()
    box = [16.0, 16, 40, 40]  # exactly what the location at (28, 28) predicts
    assignment = assign_task_aligned(
        boxes_around(centers, 12), torch.full((1, 64, 1), 0.5), centers, make_targets([box], [1])
    )
    assert torch.isclose(assignment.quality.max(), torch.tensor(1.0))
    assert centers[assignment.quality[0].argmax()].tolist() == [28, 28]


def test_a_contested_location_is_assigned_to_the_box_with_the_highest_iou() -> None:
    centers = make_centers()
    small, large = [16.0, 16, 32, 32], [0.0, 0, 64, 64]
    assignment = assign_task_aligned(
        boxes_around(centers, 8), torch.full((1, 64, 1), 0.5), centers, make_targets([large, small], [1, 1])
    )
    inside = assignment.box_index[0][(assignment.quality[0] > 0) & ((centers > 16) & (centers < 32)).all(1)]
    assert set(inside.tolist()) == {1}


@pytest.mark.parametrize("seed", range(5))
def test_the_assignment_of_crowded_images_is_that_of_the_definition(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    centers, _ = make_locations([(8, 8), (4, 4)], (8, 16), torch.device("cpu"))
    count = len(centers)
    middles = torch.rand(3, 12, 2, generator=generator) * 64
    half = torch.rand(3, 12, 2, generator=generator) * 16 + 2
    true_boxes = torch.cat([middles - half, middles + half], dim=-1)
    labels = torch.randint(1, 4, (3, 12), generator=generator)
    true_boxes[0, 5], labels[0, 5] = true_boxes[0, 2], labels[0, 2]  # the first of two equal boxes gets the locations
    labels[1, 4:] = 0  # padding
    labels[2, :] = 0
    targets = whole_image_targets(true_boxes, labels, None, (64, 64))
    # Rounded, so that some locations are equally good.
    distances = torch.rand(3, count, 4, generator=generator).mul(4).round().mul(4)
    boxes = torch.cat([centers - distances[..., :2], centers + distances[..., 2:]], dim=-1)
    scores = torch.rand(3, count, 3, generator=generator).mul(2).round().add(1).div(4)
    # Powers that are exact, so that what is equally good stays so.
    found = assign_task_aligned(boxes, scores, centers, targets, topk=5, alpha=1, beta=2)
    for image in range(3):
        expected = assign_by_definition(boxes[image], scores[image], centers, true_boxes[image], labels[image], topk=5)
        torch.testing.assert_close(found.quality[image], expected.quality)
        assert found.box_index[image].tolist() == expected.box_index.tolist()


def assign_by_definition(
    boxes: torch.Tensor,
    scores: torch.Tensor,
    centers: torch.Tensor,
    true_boxes: torch.Tensor,
    labels: torch.Tensor,
    topk: int,
) -> Assignment:
    """Of one image, box by box and location by location: boxes [L, 4], scores [L, C], true_boxes [M, 4], labels [M]."""
    iou = box_iou_xyxy(true_boxes[None], boxes[None])[0]
    metrics: dict[tuple[int, int], float] = {}
    for box in range(len(true_boxes)):
        left, top, right, bottom = true_boxes[box].tolist()
        inside = [
            location
            for location, (x, y) in enumerate(centers.tolist())
            if labels[box] > 0 and left < x < right and top < y < bottom
        ]
        values = {at: float(scores[at, labels[box] - 1] * (iou[box, at] * iou[box, at])) for at in inside}
        for at in sorted(inside, key=lambda at: -values[at])[:topk]:
            if values[at] > 0:
                metrics[box, at] = values[at]
    owners: dict[int, int] = {}
    for box, at in metrics:
        if at not in owners or iou[box, at] > iou[owners[at], at]:
            owners[at] = box
    quality = torch.zeros(len(boxes))
    for at, box in owners.items():
        own = [other for other, owner in owners.items() if owner == box]
        highest_metric = max(metrics[box, other] for other in own)
        quality[at] = metrics[box, at] * max(float(iou[box, other]) for other in own) / highest_metric
    return Assignment(torch.tensor([owners.get(at, 0) for at in range(len(boxes))]), quality)
