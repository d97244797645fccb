"""Union-find for many threads, with whole arrays of members at once."""

from __future__ import annotations

import threading

import numpy as np

from detector.preprocessing.thumbnail_vectors import Indices


class LinkedSets:
    """Sets of 0..size-1, each represented by its smallest member.

    pairs: those that merged two sets. Which of several pairs did depends on the threads; the sets do not.
    """

    def __init__(self, size: int) -> None:
        self._parent = np.arange(size, dtype=np.int32)
        self._lock = threading.Lock()
        self.pairs: list[tuple[int, int]] = []

    def find(self, members: Indices) -> Indices:
        """The representative of each; one that another thread is merging just now may be outdated."""
        found = members
        while not np.array_equal(found, parents := self._parent[found]):
            found = parents
        # Only of members that have a parent: a representative could get one from another thread meanwhile.
        inner = found != members
        self._parent[members[inner]] = found[inner]
        return found

    def union(self, first: Indices, second: Indices) -> None:
        """Merge the sets of each pair."""
        with self._lock:
            for one, other in zip(first.tolist(), second.tolist(), strict=True):
                lower, upper = sorted((self._find_one(one), self._find_one(other)))
                if lower != upper:
                    self._parent[upper] = lower
                    self.pairs.append((min(one, other), max(one, other)))

    def _find_one(self, member: int) -> int:
        while (parent := int(self._parent[member])) != member:
            member = parent
        return member
