"""Union-find: connected components from pairs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable


class DisjointSets:
    """Union-find over 0..size-1; a set is represented by its smallest member."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def add(self) -> int:
        """Add a set of one member; return its index."""
        self._parent.append(len(self._parent))
        return len(self._parent) - 1

    def find(self, index: int) -> int:
        """The smallest member of the set that contains `index`."""
        while self._parent[index] != index:
            self._parent[index] = self._parent[self._parent[index]]
            index = self._parent[index]
        return index

    def union(self, first: int, second: int) -> None:
        """Merge the sets of both members."""
        first, second = sorted((self.find(first), self.find(second)))
        self._parent[second] = first


def group_by_shared_keys(keys_per_item: Iterable[Iterable[Hashable]]) -> list[list[int]]:
    """Groups of item indices that share a key, directly or through other items, ordered by their first item."""
    sets = DisjointSets(0)
    first_item: dict[Hashable, int] = {}
    count = 0
    for keys in keys_per_item:
        index = sets.add()
        for key in keys:
            sets.union(first_item.setdefault(key, index), index)
        count = index + 1
    groups: dict[int, list[int]] = defaultdict(list)
    for index in range(count):
        groups[sets.find(index)].append(index)
    return list(groups.values())
