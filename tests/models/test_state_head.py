"""The state head alone."""

from __future__ import annotations

import pytest
import torch

from detector.models.state_head import StateHead, States, state_head, state_weights

STATES = States(present=(True, False, True), weights=(1.0, 2.0, 1.0), loss_weight=0.5)


def test_no_states_no_head() -> None:
    assert state_head(8, States()) is None


def test_loss_is_weighted_and_ignores_unknown_states() -> None:
    head = StateHead(8, STATES)
    logits, states = torch.randn(5, 3), torch.tensor([1, 2, 0, 3, 0])
    log_shares = logits.log_softmax(-1)
    expected = -(log_shares[0, 0] + 2 * log_shares[1, 1] + log_shares[3, 2]) / 3 * 0.5
    assert torch.allclose(head.loss(logits, states), expected)
    assert head.loss(logits[:0], states[:0]) == 0


def test_presence() -> None:
    head = StateHead(8, STATES)
    logits = torch.tensor([[0.0, 0.0, 0.0], [-50.0, 50.0, -50.0]])
    assert head.presence(logits).tolist() == [pytest.approx(2 / 3), pytest.approx(0)]
    assert head.is_present(torch.tensor([0, 1, 2, 3])).tolist() == [True, True, False, True]


def test_weights_even_out_and_average_to_one() -> None:
    counts = [900, 100, 0]
    weights = state_weights(counts)
    assert weights[1] / weights[0] == pytest.approx(3, rel=1e-3)
    total = sum(count * weight for count, weight in zip(counts, weights, strict=True))
    assert total / 1000 == pytest.approx(1, rel=1e-3)
    assert state_weights([0, 0]) == (0.0, 0.0)
