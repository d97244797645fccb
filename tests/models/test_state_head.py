"""The state head and its loss."""

from __future__ import annotations

import pytest
import torch

from detector.models.state_head import StateConfig, StateHead, box_loss_mask, build_state_head, compute_state_weights

STATES = StateConfig(present=(True, False, True), weights=(1.0, 2.0, 1.0), loss_weight=0.5)


def test_there_is_no_head_without_states() -> None:
    assert build_state_head(8, StateConfig()) is None


def test_loss_is_weighted_and_ignores_unknown_states() -> None:
    head = StateHead(8, STATES)
    logits, states = torch.randn(5, 3), torch.tensor([1, 2, 0, 3, 0])
    log_probabilities = logits.log_softmax(-1)
    expected = -(log_probabilities[0, 0] + 2 * log_probabilities[1, 1] + log_probabilities[3, 2]) / 3 * 0.5
    assert torch.allclose(head.loss(logits, states), expected)
    assert head.loss(logits[:0], states[:0]) == 0


def test_presence() -> None:
    head = StateHead(8, STATES)
    logits = torch.tensor([[0.0, 0.0, 0.0], [-50.0, 50.0, -50.0]])
    assert head.presence(logits).tolist() == [pytest.approx(2 / 3), pytest.approx(0)]
    assert head.is_present(torch.tensor([0, 1, 2, 3])).tolist() == [True, True, False, True]


def test_absent_objects_do_not_contribute_to_box_losses() -> None:
    states = torch.tensor([0, 1, 2, 3])
    assert box_loss_mask(StateHead(8, STATES), states).tolist() == [True, True, False, True]
    assert box_loss_mask(None, states).tolist() == [True] * 4
    assert box_loss_mask(None, states[:0]).shape == (0,)


def test_state_weights_favor_rare_states_and_average_to_one() -> None:
    counts = [900, 100, 0]
    weights = compute_state_weights(counts)
    assert weights[1] / weights[0] == pytest.approx(3, rel=1e-3)
    total = sum(count * weight for count, weight in zip(counts, weights, strict=True))
    assert total / 1000 == pytest.approx(1, rel=1e-3)
    assert compute_state_weights([0, 0]) == (0.0, 0.0)
