"""Which things belong together when only pairs are known."""

from __future__ import annotations


class DisjointSets:
    """Union-find over 0..size-1; a set is named after its smallest member."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def root(self, index: int) -> int:
        """The smallest member of the set that `index` is in."""
        while self._parent[index] != index:
            self._parent[index] = self._parent[self._parent[index]]
            index = self._parent[index]
        return index

    def join(self, first: int, second: int) -> None:
        """Make the sets of both one."""
        first, second = sorted((self.root(first), self.root(second)))
        self._parent[second] = first
