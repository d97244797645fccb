"""The comparison that gates the export."""

from __future__ import annotations

import numpy as np

from detector.exporting.parity import Answer, difference


def answer(rows: list[tuple[float, float, int]], size: int = 5) -> Answer:
    """(left, score, label) of boxes of 20x20, padded."""
    boxes, scores, labels = np.zeros((size, 4), np.float32), np.zeros(size, np.float32), np.zeros(size, np.int64)
    for index, (left, score, label) in enumerate(rows):
        boxes[index], scores[index], labels[index] = (left, 0, left + 20, 20), score, label
    return Answer(boxes, scores, labels, np.zeros_like(labels), np.zeros_like(scores))


def test_a_different_state_score_counts() -> None:
    one = answer([(0, 0.9, 1)])
    assert np.isclose(difference(one, one._replace(state_scores=one.state_scores + np.float32(0.2)), 1e-3).score, 0.2)


def test_equal_answers() -> None:
    one = answer([(0, 0.9, 1), (50, 0.8, 2)])
    assert difference(one, one, 1e-3) == (0, 0, 0)
    assert difference(answer([]), answer([]), 1e-3) == (0, 0, 0)


def test_order_does_not_matter() -> None:
    assert difference(answer([(0, 0.9, 1), (50, 0.9, 2)]), answer([(50, 0.9, 2), (0, 0.9, 1)]), 1e-3) == (0, 0, 0)


def test_differences_are_the_largest() -> None:
    found = difference(answer([(0, 0.9, 1), (50, 0.8, 2)]), answer([(0.25, 0.9, 1), (50, 0.7, 2)]), 1e-3)
    assert np.isclose(found.box, 0.25)
    assert np.isclose(found.score, 0.1)
    assert found.unmatched == 0


def test_a_detection_on_one_side_only_is_unmatched() -> None:
    extra = answer([(0, 0.9, 1), (50, 0.8, 2)])
    assert np.isclose(difference(extra, answer([(0, 0.9, 1)]), 1e-3).unmatched, 0.8)
    assert np.isclose(difference(answer([(0, 0.9, 1)]), extra, 1e-3).unmatched, 0.8)
    assert np.isclose(difference(answer([]), extra, 1e-3).unmatched, 0.9)


def test_another_category_is_no_match() -> None:
    assert np.isclose(difference(answer([(0, 0.9, 1)]), answer([(0, 0.9, 2)]), 1e-3).unmatched, 0.9)


def test_equal_scores_at_the_end_of_a_full_list_may_differ() -> None:
    one, other = answer([(0, 0.9, 1), (50, 0.3, 1)], size=2), answer([(0, 0.9, 1), (90, 0.3004, 1)], size=2)
    assert difference(one, other, 1e-3).unmatched == 0
    assert difference(one, other, 1e-5).unmatched > 0.3
    with_room = answer([(0, 0.9, 1), (50, 0.3, 1)])
    assert difference(with_room, other, 1e-3).unmatched > 0.3
    roomy = answer([(0, 0.9, 1), (50, 0.3, 1)]), answer([(0, 0.9, 1), (90, 0.3, 1)])
    assert np.isclose(difference(*roomy, 1e-3).unmatched, 0.3)
