"""Which things belong together when only pairs are known."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable


class DisjointSets:
    """Union-find over 0..size-1; a set is named after its smallest member."""

    def __init__(self, size: int) -> None:
        self._parent = list(range(size))

    def add(self) -> int:
        """One more, alone in its set; its index."""
        self._parent.append(len(self._parent))
        return len(self._parent) - 1

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


def linked_by_keys(keys_of_items: Iterable[Iterable[Hashable]]) -> list[list[int]]:
    """Indices of the items that share a key, directly or through others, in the order of their first item."""
    sets = DisjointSets(0)
    first: dict[Hashable, int] = {}
    count = 0
    for of_item in keys_of_items:
        count = sets.add() + 1
        for key in of_item:
            sets.join(first.setdefault(key, count - 1), count - 1)
    linked: dict[int, list[int]] = defaultdict(list)
    for index in range(count):
        linked[sets.root(index)].append(index)
    return list(linked.values())
