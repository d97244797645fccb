"""Groups of images that show the same picture, exactly or nearly.

Two images are near-duplicates when their grey thumbnails correlate, at the best shift of up to two
thumbnail pixels (8% of the image) in each direction: a burst, a camera that moved a little, another
exposure or compression. On the 364 blood-cell photographs that the threshold was chosen on, the seven
pairs that a person calls the same picture correlate by 0.895 to 0.978, and the next pair, which is not,
by 0.728. A 64-bit perceptual hash found one of the seven before its first wrong pair.

Every pair is compared on coarse thumbnails first, fast and roughly as one matrix product; what may be near
is judged by sums of integers below 2^24, exact in float32 in any order, so every CPU finds the same groups.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from detector.manifest.union_find import DisjointSets
from detector.preprocessing.inspection import THUMBNAIL

REACH = 2  # thumbnail pixels that an image may be shifted by
COARSE = 8  # side of the thumbnails that candidates are looked for with
COARSE_REACH = 1
COARSE_MARGIN = 0.2  # a pair must come this near to the threshold on the coarse thumbnails
ROUNDING = 1e-3  # more than matrix products in float32 can be wrong by
BLOCK = 2048  # images compared with as many others at a time, by one matrix product a shift
PAIRS = 512  # candidates judged at a time

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Indices = NDArray[np.intp]


def duplicate_groups(contents: Sequence[str], thumbnails: Sequence[bytes], similarity: float) -> list[int]:
    """For each image the index of the first image of its group (its own when it is alone).

    contents: a hash of each file's bytes; equal ones are duplicates. thumbnails: uint8, THUMBNAIL^2
    each. similarity: the least correlation of near-duplicates, 0..1; above 1 only exact ones count.
    """
    sets = DisjointSets(len(contents))
    seen: dict[str, int] = {}
    for index, content in enumerate(contents):
        sets.join(seen.setdefault(content, index), index)
    if similarity <= 1:
        for first, second in near_duplicate_pairs(thumbnails, similarity):
            sets.join(first, second)
    return [sets.root(index) for index in range(len(contents))]


def near_duplicate_pairs(thumbnails: Sequence[bytes], similarity: float) -> Iterator[tuple[int, int]]:
    """Pairs (i, j), i < j, whose best correlation reaches `similarity`.

    All of them, but for pairs that earlier ones link already: thousands of frames of a fixed camera are
    nearly all equal, and comparing every two of them would take hours.
    """
    if not thumbnails:
        return
    flat = np.frombuffer(b"".join(thumbnails), dtype=np.uint8)
    pixels = flat.reshape(-1, THUMBNAIL, THUMBNAIL).astype(np.float32) - 128
    cell = THUMBNAIL // COARSE
    fine = Shifted(pixels, REACH)
    coarse = Shifted(np.rint(pixels.reshape(-1, COARSE, cell, COARSE, cell).mean((2, 4))), COARSE_REACH)
    group = np.arange(len(pixels))  # of each image, the first image that it is linked with
    for first, second in _candidates(coarse, group, similarity - COARSE_MARGIN - ROUNDING):
        near = coarse.best_correlation(first, second) >= similarity - COARSE_MARGIN
        first, second = first[near], second[near]
        same = fine.best_correlation(first, second) >= similarity
        for pair in zip(first[same].tolist(), second[same].tolist(), strict=True):
            lower, upper = sorted(group[list(pair)])
            if lower != upper:
                group[group == upper] = lower
                yield pair


def _candidates(coarse: Shifted, group: Indices, least: float) -> Iterator[tuple[Indices, Indices]]:
    """Pairs of indices, at most PAIRS at a time, that are not yet in one group and may correlate by `least`."""
    units = {shift: coarse.unit_vectors(shift) for shift in coarse.shifts}
    for top in range(0, len(group), BLOCK):
        rows = slice(top, top + BLOCK)
        for left in range(top, len(group), BLOCK):
            columns = slice(left, left + BLOCK)
            unlinked = group[rows, None] != group[None, columns]
            if not unlinked.any():
                continue
            near = np.zeros_like(unlinked)
            for dy, dx in coarse.shifts:
                near |= units[dy, dx][rows] @ units[-dy, -dx][columns].T >= least
            near &= unlinked
            first, second = (np.triu(near, 1) if left == top else near).nonzero()
            for start in range(0, len(first), PAIRS):
                part = slice(start, start + PAIRS)
                one, other = top + first[part], left + second[part]
                apart = group[one] != group[other]  # the pairs before may have linked these
                if apart.any():
                    yield one[apart], other[apart]


class Shifted:
    """Integer-valued images [N, S, S] and, for each shift (dy, dx), the part of them that then remains.

    When one image is moved by (dy, dx), the part of the other that it lies on is the one of (-dy, -dx).
    """

    def __init__(self, images: Floats, reach: int) -> None:
        self._images = images
        self.shifts = [(dy, dx) for dy in range(-reach, reach + 1) for dx in range(-reach, reach + 1)]
        self._moments = {shift: self._measure(shift) for shift in self.shifts}

    def _part(self, images: Floats, shift: tuple[int, int]) -> Floats:
        side = images.shape[1]
        rows, columns = (slice(max(0, move), side + min(0, move)) for move in shift)
        return images[:, rows, columns]

    def _measure(self, shift: tuple[int, int]) -> tuple[Doubles, Doubles]:
        """Sum [N] and pixels^2 x variance [N]."""
        part = self._part(self._images, shift)
        sums = part.sum((1, 2)).astype(np.float64)
        return sums, _dot(part, part) * part[0].size - sums**2

    def unit_vectors(self, shift: tuple[int, int]) -> Floats:
        """[N, pixels]; the products of two are their correlation, but for rounding."""
        sums, squares = self._moments[shift]
        part = self._part(self._images, shift).reshape(len(sums), -1)
        pixels = part.shape[1]
        scale = np.divide(np.sqrt(pixels), np.sqrt(squares), out=np.zeros_like(squares), where=squares > 0)
        return (part - (sums / pixels)[:, None].astype(np.float32)) * scale[:, None].astype(np.float32)

    def best_correlation(self, first: Indices, second: Indices) -> Doubles:
        """The correlation, -1..1, of images `first` [K] with images `second` [K] at their best shift."""
        best = np.full(len(first), -1.0)
        these, those = self._images[first], self._images[second]
        for dy, dx in self.shifts:
            one, other = self._part(these, (dy, dx)), self._part(those, (-dy, -dx))
            sums, squares = (values[first] for values in self._moments[dy, dx])
            other_sums, other_squares = (values[second] for values in self._moments[-dy, -dx])
            covariances = _dot(one, other) * (one.shape[1] * one.shape[2]) - sums * other_sums
            scale = np.sqrt(squares * other_squares)
            np.maximum(best, np.divide(covariances, scale, out=np.zeros_like(scale), where=scale > 0), out=best)
        return best


def _dot(first: Floats, second: Floats) -> Doubles:
    """[N, H, W] twice -> [N]."""
    return np.einsum("nij,nij->n", first, second).astype(np.float64)
