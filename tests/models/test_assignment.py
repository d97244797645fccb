"""Task-aligned assignment of locations to boxes."""

from __future__ import annotations

import torch

from detector.engine.structures import Targets
from detector.models.assignment import assign_task_aligned
from detector.models.dense_head import make_locations
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
