"""Clusters hold similar vectors together."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from detector.preprocessing import thumbnail_clusters
from detector.preprocessing.thumbnail_clusters import assign_clusters, choose_centers
from detector.preprocessing.thumbnail_vectors import LENGTH, Floats


def random_vectors(count: int, seed: int = 0) -> Floats:
    """Integer vectors of LENGTH."""
    vectors = np.random.default_rng(seed).normal(size=(count, 32))
    rounded: Floats = np.rint(vectors / np.linalg.norm(vectors, axis=1, keepdims=True) * LENGTH).astype(np.float32)
    return rounded


def test_centers_are_not_similar_to_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(thumbnail_clusters, "PER_CENTER", 4)
    scenes = random_vectors(40).repeat(20, 0)
    centers = choose_centers(scenes)
    assert len(centers) == 40, "one per scene, fewer than one of 4 vectors"
    products = centers @ centers.T / LENGTH**2
    assert (products - np.eye(40)).max() < 0.8
    assert len(choose_centers(random_vectors(800))) == 200
    assert len(choose_centers(random_vectors(1))) == 1


def test_a_vector_belongs_to_the_clusters_of_its_nearest_centers() -> None:
    vectors, centers = random_vectors(3000), random_vectors(150, seed=1)
    with ThreadPoolExecutor(2) as threads:
        clusters = list(assign_clusters(vectors, centers, threads))
    assert len(clusters) == 150
    products = vectors @ centers.T
    nearest = np.argsort(-products, axis=1)[:, : thumbnail_clusters.NEAREST]
    belongs = np.zeros(products.shape, bool)
    for number, members in enumerate(clusters):
        assert np.all(np.diff(members) > 0)
        belongs[members, number] = True
    assert np.take_along_axis(belongs, nearest, 1).all()
    assert belongs.sum(1).mean() < 1.5 * thumbnail_clusters.NEAREST
    lowest = np.where(belongs, products, np.inf).min(1, keepdims=True)
    assert not ((products > lowest) & ~belongs).any(), "no center is skipped for a farther one"


def test_few_centers_and_vectors_without_direction() -> None:
    vectors = random_vectors(20)
    vectors[3] = 0
    with ThreadPoolExecutor(2) as threads:
        clusters = assign_clusters(vectors, vectors[:2], threads)
    members = list(clusters)
    assert 0 in members[0]
    assert 1 in members[1]
    assert all(3 not in found for found in members)
    assert clusters.count_pairs() == sum(len(found) ** 2 for found in members)
