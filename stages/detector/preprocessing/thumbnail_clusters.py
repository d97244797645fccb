"""Overlapping clusters of similar vectors, so that not every pair has to be compared.

A vector belongs to the clusters of its nearest centers, about NEAREST of them. Two similar vectors nearly always share
one of them, although the nearest center of each may be another.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor

import numpy as np
from numpy.typing import NDArray

from detector.preprocessing.thumbnail_vectors import LENGTH, Floats, Indices

PER_CENTER = 128  # vectors per center
NEAREST = 11  # clusters per vector
GROUPS = 8 * NEAREST  # of centers; the nearest ones are mostly in different groups
MAX_CENTER_CORRELATION = 0.8
ROWS = 256  # vectors whose clusters are found at once
BLOCK = 256  # vectors that centers are chosen from at once


class Clusters:
    """members [entries]: indices of vectors, cluster by cluster; starts [clusters + 1]: start of each cluster."""

    def __init__(self, members: Indices, starts: NDArray[np.intp]) -> None:
        self._members, self._starts = members, starts

    def __iter__(self) -> Iterator[Indices]:
        for start, end in zip(self._starts[:-1], self._starts[1:], strict=True):
            yield self._members[start:end]

    def count_pairs(self) -> int:
        """Ordered pairs of members of a cluster, over all clusters."""
        return int((np.diff(self._starts) ** 2).sum())


def choose_centers(vectors: Floats) -> Floats:
    """One of PER_CENTER vectors [N, K], evenly spaced, none similar to another: a thousand frames need one center."""
    sample = vectors[:: max(1, PER_CENTER // 2)]
    wanted = max(1, len(vectors) // PER_CENTER)
    limit = MAX_CENTER_CORRELATION * LENGTH**2
    centers = np.empty((wanted, vectors.shape[1]), np.float32)
    count = 0
    for start in range(0, len(sample), BLOCK):
        block = sample[start : start + BLOCK]
        near = block @ block.T >= limit
        apart: NDArray[np.bool_] = np.all(block @ centers[:count].T < limit, axis=1)
        for row in range(len(block)):
            if apart[row] and count < wanted:
                centers[count] = block[row]
                count += 1
                apart &= ~near[row]
    return centers[:count]


def assign_clusters(vectors: Floats, centers: Floats, threads: Executor) -> Clusters:
    """The cluster of each center, of integer vectors [N, K] and centers [C, K], both of LENGTH."""
    columns = -(-len(centers) // GROUPS) * GROUPS
    padded = np.zeros((vectors.shape[1], columns), np.float32)
    padded[:, : len(centers)] = centers.T

    def find_nearest(start: int) -> tuple[Indices, Indices]:
        products = vectors[start : start + ROWS] @ padded
        # The smallest of the NEAREST largest group maxima is a little less than the last of the NEAREST products.
        maxima = products.reshape(len(products), -1, GROUPS).max(1)
        least = np.partition(maxima, GROUPS - NEAREST, axis=1)[:, GROUPS - NEAREST, None]
        chosen = np.flatnonzero(products >= np.maximum(least, 1))
        members, clusters = np.divmod(chosen, columns)
        return (members + start).astype(np.int32), clusters.astype(np.int32)

    parts = list(threads.map(find_nearest, range(0, len(vectors), ROWS)))
    members = np.concatenate([members for members, _ in parts])
    clusters = np.concatenate([clusters for _, clusters in parts])
    order = np.argsort(clusters, kind="stable")
    return Clusters(members[order], np.searchsorted(clusters[order], np.arange(len(centers) + 1)))
