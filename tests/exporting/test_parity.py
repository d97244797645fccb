"""The comparison of two sets of detections that the export depends on."""

from __future__ import annotations

import numpy as np

from detector.engine.detections import Detections
from detector.exporting import parity

MAX_DETECTIONS = 5


def make_detections(rows: list[tuple[float, float, int]]) -> Detections:
    """Build detections from (left, score, label); all boxes are 20 x 20."""
    boxes = np.array([(left, 0, left + 20, 20) for left, _, _ in rows], np.float32).reshape(-1, 4)
    scores, labels = np.array([row[1] for row in rows], np.float32), np.array([row[2] for row in rows], np.int64)
    return Detections(boxes, scores, labels, np.zeros_like(labels), np.zeros_like(scores))


def difference(
    first: Detections, second: Detections, tie: float, most: int = MAX_DETECTIONS
) -> parity.DetectionDifference:
    return parity.compute_difference(first, second, most, tie)


def test_a_different_state_score_counts() -> None:
    one = make_detections([(0, 0.9, 1)])
    assert np.isclose(difference(one, one._replace(state_scores=one.state_scores + np.float32(0.2)), 1e-3).score, 0.2)


def test_identical_detections() -> None:
    one = make_detections([(0, 0.9, 1), (50, 0.8, 2)])
    assert difference(one, one, 1e-3) == (0, 0, 0)
    assert difference(make_detections([]), make_detections([]), 1e-3) == (0, 0, 0)


def test_order_does_not_matter() -> None:
    assert difference(
        make_detections([(0, 0.9, 1), (50, 0.9, 2)]), make_detections([(50, 0.9, 2), (0, 0.9, 1)]), 1e-3
    ) == (0, 0, 0)


def test_the_largest_differences_are_reported() -> None:
    found = difference(
        make_detections([(0, 0.9, 1), (50, 0.8, 2)]), make_detections([(0.25, 0.9, 1), (50, 0.7, 2)]), 1e-3
    )
    assert np.isclose(found.box, 0.25)
    assert np.isclose(found.score, 0.1)
    assert found.unmatched == 0


def test_a_detection_on_one_side_only_is_unmatched() -> None:
    extra = make_detections([(0, 0.9, 1), (50, 0.8, 2)])
    assert np.isclose(difference(extra, make_detections([(0, 0.9, 1)]), 1e-3).unmatched, 0.8)
    assert np.isclose(difference(make_detections([(0, 0.9, 1)]), extra, 1e-3).unmatched, 0.8)
    assert np.isclose(difference(make_detections([]), extra, 1e-3).unmatched, 0.9)


def test_boxes_that_nearly_coincide_match_one_to_one() -> None:
    """The query-based detectors have such; the second box is nearer to the first of the others than to its own."""
    found = difference(
        make_detections([(0, 0.9, 1), (0.2, 0.9, 1)]), make_detections([(0.1, 0.9, 1), (0.32, 0.9, 1)]), 1e-3
    )
    assert found.unmatched == 0
    assert np.isclose(found.box, 0.12)


def test_different_classes_do_not_match() -> None:
    assert np.isclose(difference(make_detections([(0, 0.9, 1)]), make_detections([(0, 0.9, 2)]), 1e-3).unmatched, 0.9)


def test_equal_scores_at_the_end_of_a_full_list_may_differ() -> None:
    one, other = make_detections([(0, 0.9, 1), (50, 0.3, 1)]), make_detections([(0, 0.9, 1), (90, 0.3004, 1)])
    assert difference(one, other, 1e-3, most=2).unmatched == 0
    assert difference(one, other, 1e-5, most=2).unmatched > 0.3
    longer = make_detections([(0, 0.9, 1), (50, 0.3, 1), (150, 0.2, 1)])
    assert difference(longer, other, 1e-3, most=3).unmatched > 0.3
    roomy = make_detections([(0, 0.9, 1), (50, 0.3, 1)]), make_detections([(0, 0.9, 1), (90, 0.3, 1)])
    assert np.isclose(difference(*roomy, 1e-3).unmatched, 0.3)


def test_boxes_without_area_match_by_position() -> None:
    """Several in one position, as NMS leaves them, match by score."""
    one = make_detections([(0, 0.9, 1), (50, 0.8, 1), (50, 0.6, 1)])
    one.boxes_xyxy[1:, 2] = one.boxes_xyxy[1:, 0]
    other = one._replace(boxes_xyxy=one.boxes_xyxy + np.float32(0.25))
    assert difference(one, other, 1e-3) == (0.25, 0, 0)
    away = one._replace(boxes_xyxy=one.boxes_xyxy + np.array([[0], [3], [3]], np.float32))
    assert np.isclose(difference(one, away, 1e-3).unmatched, 0.8)
