"""Groups of exact and near-duplicate images.

Two images are near-duplicates when their gray thumbnails correlate, at the best shift of up to two
thumbnail pixels (8% of the image) in each direction: frames of a burst, a slightly moved camera, another
exposure or compression. On the 364 blood-cell photographs that the threshold was chosen on, the seven
pairs that a person calls the same picture have correlations of 0.895 to 0.978; the next pair, which is
a different picture, has 0.728. A 64-bit perceptual hash found one of the seven before its first false pair.

For each shift, a fast matrix product bounds the correlation of many pairs from above; only where the bound reaches the
threshold, the correlation is computed, exactly, so every CPU finds the same groups. Up to EXHAUSTIVE_LIMIT images,
every pair is compared so; of more, those that share a cluster (thumbnail_clusters.py).
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor

import numpy as np

from detector.manifest.union_find import DisjointSets
from detector.preprocessing.linked_sets import LinkedSets
from detector.preprocessing.thumbnail_clusters import Clusters, assign_clusters, choose_centers
from detector.preprocessing.thumbnail_vectors import (
    LENGTH,
    MAX_SHIFT,
    Floats,
    Indices,
    Pixels,
    Shift,
    ShiftedPairs,
    central_window,
    compute_bounding_vectors,
    compute_wave_vectors,
    make_waves,
    read_pixels,
)

EXHAUSTIVE_LIMIT = 32_768  # images; of fewer, comparing every pair takes no longer than making clusters
WAVES = 79  # of the vectors that bound the correlation
MARGIN = 0.3  # of noise, what the waves show may correlate by this much less than the whole image
ROUNDING_ERROR = 5e-3  # upper bound of the error of the bound
CLUSTER_WAVES = 32
CLUSTER_EXPONENT = 0.5  # of the waves' frequencies: the lowest waves would make a few large clusters
ROWS, COLUMNS = 1024, 1024  # of one matrix product
DENSE = 64  # when more than one of so many pairs may be near-duplicates, all are compared at once
PAIRS_PER_BATCH = 1024  # of the others


def group_duplicates(contents: Sequence[str], thumbnails: Sequence[bytes], similarity: float | None) -> list[int]:
    """For each image, the index of the first image in its group (its own index when it has no duplicate).

    contents: hash of each file's bytes; equal hashes are exact duplicates.
    thumbnails: uint8 pixels, THUMBNAIL_SIZE^2 per image.
    similarity: minimum correlation of near-duplicates, 0 to 1; None: only exact duplicates.
    """
    sets = DisjointSets(len(contents))
    seen: dict[str, int] = {}
    for index, content in enumerate(contents):
        sets.union(seen.setdefault(content, index), index)
    if similarity is not None:
        for first, second in find_near_duplicate_pairs(thumbnails, similarity):
            sets.union(first, second)
    return [sets.find(index) for index in range(len(contents))]


def find_near_duplicate_pairs(thumbnails: Sequence[bytes], similarity: float) -> list[tuple[int, int]]:
    """Pairs (i, j), i < j, whose best correlation is at least `similarity`, without those that others already link.

    Thousands of frames of a fixed camera are nearly all equal, and comparing all pairs of them would take hours.
    """
    pixels = read_pixels(thumbnails)
    sets = LinkedSets(len(pixels))
    with ThreadPoolExecutor(os.cpu_count()) as threads:
        clusters = make_clusters(pixels, threads)
        for shift in list_shifts():
            search = PairSearch(pixels, shift, similarity, sets)
            jobs = split_pairs(clusters.assign(shift), clusters.assign((0, 0)), is_symmetric=shift == (0, 0))
            list(threads.map(lambda job, search=search: search.link_pairs(*job), jobs))
    return sets.pairs


def list_shifts() -> list[Shift]:
    """The smallest first; without the opposites, which are the shifts of the other image of a pair."""
    moves = range(-MAX_SHIFT, MAX_SHIFT + 1)
    shifts = [(dy, dx) for dy in moves for dx in moves if (dy, dx) >= (0, 0)]
    return sorted(shifts, key=lambda shift: (shift[0] ** 2 + shift[1] ** 2, shift))


class OneCluster:
    """All images in one cluster: every pair is compared."""

    def __init__(self, size: int) -> None:
        self._clusters = Clusters(np.arange(size, dtype=np.int32), np.array([0, size]))

    def assign(self, _shift: Shift) -> Clusters:
        """The same at any shift."""
        return self._clusters


class CentralClusters:
    """Clusters of images by what the waves show of their center; a shifted image belongs to those of the other's."""

    def __init__(self, pixels: Pixels, threads: Executor) -> None:
        self._pixels, self._threads = pixels, threads
        self._waves = make_waves(central_window((0, 0)), CLUSTER_WAVES, CLUSTER_EXPONENT)
        vectors = self._compute_vectors((0, 0))
        self._centers = choose_centers(vectors)
        self._unshifted = assign_clusters(vectors, self._centers, threads)

    def assign(self, shift: Shift) -> Clusters:
        """The clusters of the images at this shift."""
        if shift == (0, 0):
            return self._unshifted
        return assign_clusters(self._compute_vectors(shift), self._centers, self._threads)

    def _compute_vectors(self, shift: Shift) -> Floats:
        return compute_wave_vectors(self._pixels, central_window(shift), self._waves)


def make_clusters(pixels: Pixels, threads: Executor) -> OneCluster | CentralClusters:
    """Clusters, or one where clusters have as many pairs as all images: of few images, or of a few scenes."""
    if len(pixels) > EXHAUSTIVE_LIMIT:
        clusters = CentralClusters(pixels, threads)
        if clusters.assign((0, 0)).count_pairs() < len(pixels) ** 2:
            return clusters
    return OneCluster(len(pixels))


def split_pairs(
    first: Iterable[Indices], second: Iterable[Indices], *, is_symmetric: bool
) -> Iterator[tuple[Indices, Indices, bool]]:
    """Arguments of `PairSearch.link_pairs` for each image of a cluster with each of its counterpart.

    is_symmetric: both are the same; each pair is compared once.
    """
    for rows, columns in zip(first, second, strict=True):
        for start in range(0, len(rows), ROWS):
            yield rows[start : start + ROWS], columns[start if is_symmetric else 0 :], is_symmetric


class PairSearch:
    """Near-duplicates among images [N, H, W] of which one is shifted by (dy, dx) relative to the other."""

    def __init__(self, pixels: Pixels, shift: Shift, similarity: float, sets: LinkedSets) -> None:
        self._similarity, self._sets = similarity, sets
        self._pairs = ShiftedPairs(pixels, shift)
        waves = make_waves(self._pairs.windows[0], WAVES)
        # What the waves show of two images then correlates by similarity - MARGIN when the bound is `similarity`.
        least_share = (1 - similarity) / (1 - similarity + MARGIN)
        first, second = (
            compute_bounding_vectors(pixels, window, waves, moments, least_share)
            for window, moments in zip(self._pairs.windows, self._pairs.moments, strict=True)
        )
        self._vectors = first, second

    def link_pairs(self, first: Indices, second: Indices, is_symmetric: bool) -> None:
        """Merge the sets of near-duplicates: of each image in `first` [K] with each in `second` [L].

        is_symmetric: `second` starts with `first`, and an image is compared only with later ones.
        """
        minimum = (self._similarity - ROUNDING_ERROR) * LENGTH**2
        sets = self._sets.find(first)
        if (sets == sets[0]).all():
            second = second[self._sets.find(second) != sets[0]]
            is_symmetric = False  # none of the first is left among them
        vectors = self._vectors[0][first]
        for start in range(0, len(second), COLUMNS):
            others = second[start : start + COLUMNS]
            sets, other_sets = self._sets.find(first), self._sets.find(others)
            if (sets == sets[0]).all() and (other_sets == sets[0]).all():
                continue
            near = vectors @ self._vectors[1][others].T >= minimum
            if is_symmetric and start < len(first):
                near = np.triu(near, 1 - start)
            count = np.count_nonzero(near)
            is_dense = bool(count * DENSE > near.size)
            if is_dense:
                near &= sets[:, None] != other_sets
                near &= self._pairs.correlate_all(first, others) >= self._similarity
            if count:
                rows, columns = np.divmod(np.flatnonzero(near), len(others))
                self._link_candidates(first[rows], others[columns], are_sure=is_dense)

    def _link_candidates(self, first: Indices, second: Indices, *, are_sure: bool) -> None:
        """Merge the sets of pairs that are near-duplicates; all are, if `are_sure`."""
        for start in range(0, len(first), PAIRS_PER_BATCH):
            one, other = first[start : start + PAIRS_PER_BATCH], second[start : start + PAIRS_PER_BATCH]
            apart = self._sets.find(one) != self._sets.find(other)  # earlier pairs may have linked these
            one, other = one[apart], other[apart]
            if not are_sure:
                same = self._pairs.correlate_pairs(one, other) >= self._similarity
                one, other = one[same], other[same]
            self._sets.union(one, other)
