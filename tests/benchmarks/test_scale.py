"""The rows of the scale benchmark, and its generated data."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.generated_thumbnails import generate_thumbnails
from benchmarks.scale import STEPS, Cost, cost_row, generate_manifest, growth_exponent, measure_steps
from detector.core.errors import UserError
from detector.preprocessing.duplicates import find_near_duplicate_pairs


def test_the_exponent_of_linear_and_quadratic_growth() -> None:
    small = Cost(2.0, 1.0, 0.1)
    assert growth_exponent(10, small, 1000, Cost(200.0, 1.0, 0.1)) == pytest.approx(1)
    assert growth_exponent(10, small, 1000, Cost(20_000.0, 1.0, 0.1)) == pytest.approx(2)


@pytest.mark.parametrize(
    ("cost", "growth", "passed"),
    [
        (Cost(900.0, 599.0, 3.9), 1.09, True),
        (Cost(900.0, 601.0, 3.9), 1.09, False),
        (Cost(900.0, 599.0, 4.1), 1.09, False),
        (Cost(900.0, 599.0, 3.9), 1.11, False),
        (Cost(900.0, 599.0, 3.9), None, True),
    ],
)
def test_a_row_passes_when_time_memory_and_growth_do(cost: Cost, growth: float | None, passed: bool) -> None:
    assert cost_row("near-duplicates", cost, 1_000_000, growth).passed is passed


def test_a_fifth_of_the_thumbnails_are_near_duplicates() -> None:
    blocks = list(generate_thumbnails(1500))
    pixels = np.concatenate(blocks)
    assert pixels.shape == (1500, 24, 24)
    links = len(find_near_duplicate_pairs([image.tobytes() for image in pixels], 0.85))
    assert 200 < links < 330
    np.testing.assert_array_equal(pixels, np.concatenate(list(generate_thumbnails(1500))))


def test_manifests_are_the_same_each_time() -> None:
    assert list(generate_manifest(30)) == list(generate_manifest(30))


def test_stages_are_measured_on_generated_images(tmp_path: Path) -> None:
    costs = measure_steps(tmp_path / "repository", 300, ["split", "near-duplicates"])
    assert list(costs) == ["split", "near-duplicates"]
    assert all(min(cost) > 0 for cost in costs.values())
    assert set(costs) < set(STEPS)


def test_a_step_without_its_input_fails(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="failed"):
        measure_steps(tmp_path / "repository", 10, ["coco-convert"])
