"""Which location answers for which box."""

from __future__ import annotations

import torch

from detector.engine.structures import Targets
from detector.models.assignment import assign
from detector.models.dense_head import locations_of


def grid() -> torch.Tensor:
    centres, _ = locations_of([(8, 8)], (8,), torch.device("cpu"))
    return centres


def around(centres: torch.Tensor, half: float) -> torch.Tensor:
    return torch.cat([centres - half, centres + half], dim=1)[None]


def targets(boxes: list[list[float]], labels: list[int]) -> Targets:
    return Targets(torch.tensor([boxes]), torch.tensor([labels]), torch.zeros(1, len(labels), dtype=torch.int64))


def test_no_boxes_is_all_background() -> None:
    centres = grid()
    empty = Targets(torch.zeros(1, 0, 4), torch.zeros(1, 0).long(), torch.zeros(1, 0).long())
    found = assign(around(centres, 8), torch.full((1, 64, 2), 0.5), centres, empty)
    assert not found.quality.any()


def test_padding_takes_no_location() -> None:
    centres = grid()
    padded = targets([[8, 8, 40, 40], [0, 0, 0, 0]], [2, 0])
    found = assign(around(centres, 12), torch.full((1, 64, 2), 0.5), centres, padded)
    assert found.quality.any()
    assert found.box_index[found.quality > 0].unique().tolist() == [0]


def test_locations_lie_inside_their_box_and_at_most_topk() -> None:
    centres = grid()
    box = [8.0, 8, 56, 56]
    found = assign(around(centres, 20), torch.full((1, 64, 1), 0.5), centres, targets([box], [1]), topk=4)
    chosen = centres[found.quality[0] > 0]
    assert 0 < len(chosen) <= 4
    assert ((chosen > 8) & (chosen < 56)).all()


def test_best_location_has_the_boxs_highest_overlap_as_quality() -> None:
    centres = grid()
    wanted = [16.0, 16, 40, 40]  # exactly what the location at (28, 28) predicts
    found = assign(around(centres, 12), torch.full((1, 64, 1), 0.5), centres, targets([wanted], [1]))
    assert torch.isclose(found.quality.max(), torch.tensor(1.0))
    assert centres[found.quality[0].argmax()].tolist() == [28, 28]


def test_a_contested_location_goes_to_the_box_that_it_overlaps_most() -> None:
    centres = grid()
    small, large = [16.0, 16, 32, 32], [0.0, 0, 64, 64]
    found = assign(around(centres, 8), torch.full((1, 64, 1), 0.5), centres, targets([large, small], [1, 1]))
    inside = found.box_index[0][(found.quality[0] > 0) & ((centres > 16) & (centres < 32)).all(1)]
    assert set(inside.tolist()) == {1}
