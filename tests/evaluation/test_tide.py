"""The cost and the number of each type of error equal hotcoco's."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.engine.detections import pack_rows
from detector.engine.ground_truth import pack_ground_truth
from detector.evaluation.matching import collect_matches
from detector.evaluation.overlaps import find_overlaps
from detector.evaluation.tide import KINDS, compute_tide
from tests.support.packed import evaluate_rows
from tests.support.random_cases import make_random_case

THEIRS = dict(zip(KINDS, ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss"), strict=True))


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.integers(1, 20), st.integers(1, 4), st.sampled_from([0, 3, 12, 120]), st.booleans())
def test_costs_and_counts_equal_hotcoco(seed: int, images: int, classes: int, detections: int, ties: bool) -> None:
    truth, rows = make_random_case(seed, images, classes, detections, ties)
    predictions = pack_rows(rows)
    overlaps = find_overlaps(pack_ground_truth(truth), predictions)
    matches = collect_matches(overlaps)
    tide, expected = compute_tide(overlaps, predictions, matches), evaluate_rows(truth, rows).tide_errors()
    assert tide["counts"] == {kind: expected["counts"][name] for kind, name in THEIRS.items()}
    if rows and matches.object_counts.any():
        costs = {kind: expected["delta_ap"][name] for kind, name in THEIRS.items()}
        assert {kind: tide[kind] for kind in KINDS} == pytest.approx(costs, abs=1e-9)
    else:
        assert {tide[kind] for kind in KINDS} == {None}
