"""On generated detectors, 95% intervals cover the true AP and planted differences are found; bootstrapping is fast."""

from __future__ import annotations

import multiprocessing
import resource
import sys
import time
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.coco_evaluation import generate_case
from detector.comparison.comparison import DetectorMatches, compare_detectors
from detector.evaluation.bootstrap import bootstrap_weights, compute_average_precisions, logit_interval
from detector.evaluation.matching import NUM_IOUS, Matches, collect_matches
from detector.evaluation.metric_names import COMPARED_METRICS
from detector.evaluation.overlaps import find_overlaps
from tests.support.generated_detectors import FALSE_POSITIVES, OBJECTS, generate_matches, generate_scene

POPULATION = 60_000  # images that determine the true AP to within 0.001
TEST_SETS = 400
PAIRS = 300
SKILLS = {"weak": 0.0, "medium": 1.0, "good": 2.5}


def compute_ap(matches: Matches, weights: NDArray[np.int32]) -> NDArray[np.float64]:
    """AP and AP50 [B, 2]."""
    precision = compute_average_precisions(matches, weights)
    return np.stack([np.nanmean(precision, axis=(1, 2)), np.nanmean(precision[:, 0], axis=1)], axis=1)


@pytest.mark.long
@pytest.mark.parametrize("skill", SKILLS.values(), ids=SKILLS)
def test_intervals_cover_the_true_ap(skill: float) -> None:
    random = np.random.default_rng(1)
    population = generate_matches(generate_scene(POPULATION, random), skill, random)
    (true,) = compute_ap(population, np.ones((1, POPULATION), np.int32))
    for images in (60, 150):
        covered = np.zeros(2)
        for seed in range(TEST_SETS):
            matches = generate_matches(generate_scene(images, random), skill, random)
            weights = np.append(np.ones((1, images), np.int32), bootstrap_weights(np.arange(images), 400, seed), axis=0)
            value, *samples = compute_ap(matches, weights)
            for metric, replicates in enumerate(np.array(samples).T):
                bounds = logit_interval(replicates, value[metric], images)
                covered[metric] += bounds is not None and bounds[0] <= true[metric] <= bounds[1]
        assert (covered / TEST_SETS).tolist() == pytest.approx([0.95, 0.95], abs=0.03 + 1e-9), f"{images} images"


@pytest.mark.long
@pytest.mark.parametrize(
    ("gain", "least", "most"), [(0.0, 0.0, 0.09), (0.15, 0.75, 1.0), (0.4, 0.98, 1.0)], ids=["none", "small", "large"]
)
def test_comparisons_find_planted_differences_and_few_others(gain: float, least: float, most: float) -> None:
    random = np.random.default_rng(2)
    verdicts: list[str] = []
    significant_classes = 0
    for seed in range(PAIRS):
        scene = generate_scene(150, random)
        a, b = (DetectorMatches(generate_matches(scene, skill, random), np.full(3, 0.5)) for skill in (1.0, 1.0 + gain))
        weights = bootstrap_weights(np.arange(150), 400, seed)
        metrics, classes = compare_detectors(a, b, ["a", "b", "c"], weights)
        verdicts.append(metrics[COMPARED_METRICS.index("AP")].verdict)
        significant_classes += any(row.verdict in ("better", "worse") for row in classes)
    better, worse = verdicts.count("better") / PAIRS, verdicts.count("worse") / PAIRS
    if gain:
        assert least <= better <= most
        assert worse == 0
    else:
        assert better + worse <= most
        assert significant_classes / PAIRS <= most


def measure_bootstrap() -> tuple[float, float]:
    """Seconds and peak memory in GiB of 1,000 bootstrap samples of 5,000 images with 100 detections each."""
    truth, predictions = generate_case(5000, 100)
    start = time.perf_counter()
    matches = collect_matches(find_overlaps(truth, predictions))
    compute_average_precisions(matches, bootstrap_weights(np.arange(5000), 1000, seed=0))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2 ** (30 if sys.platform == "darwin" else 20)
    return time.perf_counter() - start, peak


@pytest.mark.long
def test_the_bootstrap_of_a_large_test_set_is_fast() -> None:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        seconds, memory = pool.submit(measure_bootstrap).result()
    assert seconds < 60
    assert memory < 2


def test_generated_matches_are_consistent() -> None:
    random = np.random.default_rng(0)
    scene = generate_scene(3000, random)
    matches = generate_matches(scene, 1.0, random)
    assert np.allclose(scene.object_counts.mean(axis=0), OBJECTS, rtol=0.1)
    assert (np.diff(matches.scores) <= 0).all()
    hits = np.stack([matches.hits(iou) for iou in range(NUM_IOUS)])
    assert (np.diff(hits.astype(int), axis=0) <= 0).all(), "a match at a high IoU is a match at a low one"
    found = np.zeros_like(scene.object_counts)
    np.add.at(found, (matches.images[matches.hits()], matches.categories[matches.hits()]), 1)
    assert (found <= scene.object_counts).all()
    assert found.sum() > 0.5 * scene.object_counts.sum()
    assert (~matches.hits()).sum() >= 0.9 * FALSE_POSITIVES * 3000


def test_more_skill_is_a_higher_ap() -> None:
    random = np.random.default_rng(0)
    scene = generate_scene(3000, random)
    once = np.ones((1, 3000), np.int32)
    weak, medium, good = (compute_ap(generate_matches(scene, skill, random), once)[0, 0] for skill in SKILLS.values())
    assert weak < medium - 0.1 < good - 0.2
