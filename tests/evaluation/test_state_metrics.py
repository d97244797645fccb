"""How well states are told."""

from __future__ import annotations

import numpy as np
import pytest

from detector.evaluation.state_metrics import confusion_of_states, state_numbers


def test_confusions_leave_out_the_unknown() -> None:
    matrix = confusion_of_states(np.array([1, 1, 2, 0, 2]), np.array([1, 2, 2, 1, 2]), 3)
    assert matrix.tolist() == [[1, 1, 0], [0, 2, 0], [0, 0, 0]]


def test_numbers() -> None:
    numbers = state_numbers(np.array([[1, 1, 0], [0, 2, 0], [0, 0, 0]]), ["whole", "gone", "never"])
    assert numbers.of_state["whole"] == {"objects": 2, "precision": 1.0, "recall": 0.5, "F1": pytest.approx(2 / 3)}
    assert numbers.of_state["gone"] == {"objects": 2, "precision": pytest.approx(2 / 3), "recall": 1.0, "F1": 0.8}
    assert numbers.of_state["never"] == {"objects": 0, "precision": 0.0, "recall": 0.0, "F1": 0.0}
    assert numbers.macro_f1 == pytest.approx((2 / 3 + 0.8) / 2)  # a state that does not occur says nothing


def test_no_known_state() -> None:
    assert state_numbers(np.zeros((2, 2), np.int64), ["a", "b"]).macro_f1 is None
